"""The demo's processes: workers, beat and Flower, each with a log in the demo's folder."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

PROGRAMS = Path(sys.executable).parent

READY_SECONDS = 60.0
STOP_SECONDS = 20.0


class DemoError(Exception):
    """A step of the demo failed; the text names the step and the log in one line."""


@contextlib.contextmanager
def fleet(directory: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Start a worker for pages, one for scoring, beat and Flower; yield Flower's address once all are ready."""
    port = _free_port()
    flower = f"http://127.0.0.1:{port}"
    # Flower's API refuses all requests unless there is a login; here Flower listens on this machine only.
    open_to_us = {**environment, "FLOWER_UNAUTHENTICATED_API": "true"}
    workers = {"pages": (), "scoring": ("-Q", f"{environment['BACKFILL_QUEUE']}.scoring")}
    with contextlib.ExitStack() as stack:
        for worker, queue in workers.items():
            arguments = ["worker", *queue, "--concurrency=2", f"--hostname={worker}@%h"]
            stack.enter_context(_program(directory, environment, worker, "backfill", *arguments))
        stack.enter_context(_program(directory, environment, "beat", "backfill", "beat"))
        arguments = ["-A", "backfill_tasks", "flower", "--address=127.0.0.1", f"--port={port}"]
        stack.enter_context(_program(directory, open_to_us, "flower", "celery", *arguments))
        for worker in workers:
            log = directory / f"{worker}.log"
            _wait(partial(_has_said, log, " ready."), log)
        _wait(partial(_answers, flower), directory / "flower.log")
        yield flower


def backfill(directory: Path, environment: Mapping[str, str], *arguments: str, output: BinaryIO | None = None) -> None:
    """Run the command in this terminal, as an operator does; `output`: where its standard output goes instead.

    Raises:
        DemoError: it didn't end with status 0.
    """
    sys.stdout.flush()
    command = [str(PROGRAMS / "backfill"), *arguments]
    done = subprocess.run(command, cwd=directory, env=environment, stdout=output, check=False)  # noqa: S603 (our own command)
    if done.returncode:
        raise DemoError(f"`backfill {' '.join(arguments)}` ended with status {done.returncode}")


def _has_said(log: Path, word: str) -> bool:
    return word in log.read_text(errors="replace")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 (our own address)
            return True
    except OSError:
        return False


def _wait(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines() or ["(empty)"]
            raise DemoError(f"{log.stem} is not ready after {READY_SECONDS:.0f} s. Last line of its log: {said[-1]}")
        time.sleep(0.05)


@contextlib.contextmanager
def _program(
    directory: Path, environment: Mapping[str, str], name: str, program: str, *arguments: str
) -> Iterator[None]:
    """Run a program for the duration of the block, with its output in a log file."""
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 (our own command)
            [str(PROGRAMS / program), *arguments],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
