"""The demo: a dry run, a run and a verification on a sample host database, with two workers, beat and Flower.

The servers are real. Their data is in a temporary folder, which is removed when the demo ends.
"""

import argparse
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import FrameType

import psycopg

from sandbox.host.sample import Sample, create_schema, fill
from sandbox.process import ServerError
from sandbox.servers import create_database, drop_database, servers

LEADS = 20_000
PROGRAMS = Path(sys.executable).parent
# A run's results: disqualified leads with its reasoning, and our jobs for leads without a score.
_OUTCOME = """
SELECT
  (SELECT count(*) FROM "Lead" WHERE "scoreReasoning" LIKE 'Automatically disqualified: %'),
  (SELECT count(*) FROM "BackgroundJob" JOIN "Lead" ON "dedupeKey" = 'lead_scoring_backfill:' || "Lead".id
   WHERE "BackgroundJob".status = 'PENDING' AND "overallScore" IS NULL)
"""

# By default, a run enqueues no faster than a live host drains its queue; the sample's queue is never drained.
_UNBOUNDED = ("--jobs-per-minute", "none", "--max-pending", "none", "--max-live-wait", "0")

READY_SECONDS = 60.0
STOP_SECONDS = 20.0


class DemoError(Exception):
    """A step of the demo failed; the text names the step and the log in one line."""


def main() -> int:
    """Run the demo; return 0 if every step succeeded."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="stay up until Ctrl-C and print Flower's address")
    parser.add_argument(
        "--leads", type=int, default=LEADS, help="number of leads in the sample host database (%(default)s)"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="backfill-demo-") as directory,
            servers(settings={}) as started,
            _database(started.database_url) as database_url,
        ):
            environment = {
                **os.environ,
                "DATABASE_URL": database_url,
                "REDIS_URL": started.redis_url,
                "BACKFILL_QUEUE": f"demo-{secrets.token_hex(4)}",
            }
            _demonstrate(Path(directory), environment, leads=arguments.leads, keep=arguments.keep)
    except (DemoError, ServerError, OSError) as error:
        _say(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        _say("demo: stopped. All its servers and workers have ended.")
        return 130
    return 0


def _demonstrate(directory: Path, environment: Mapping[str, str], *, leads: int, keep: bool) -> None:
    began = time.monotonic()
    _title(f"A host database of {leads:,} leads")
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
        create_schema(connection)
        sample = fill(connection, leads)
    _say(f"It has {sample.clients} workspaces, {sample.messages:,} messages and {sample.jobs:,} old jobs.")
    _say(f"{sample.scored:,} leads have a score, {sample.no_inbound:,} never wrote, {sample.eligible:,} need scoring.")
    _title("Two workers, beat and Flower")
    with _fleet(directory, environment) as flower:
        _say(f"Flower: {flower}")
        _title("Dry run: count what a run would do", "backfill run --limit 100")
        _backfill(directory, environment, "run", "--limit", "100")
        _title("Run, with live progress", f"backfill run --limit 100 --apply \\\n     {' '.join(_UNBOUNDED)}")
        _say("(No runner drains this sample's job queue, so the limits that protect a live queue are off.)")
        _backfill(directory, environment, "run", "--limit", "100", "--apply", "--yes", *_UNBOUNDED)
        _title("Verification: check the result in the database", "backfill verify")
        _backfill(directory, environment, "verify")
        _title("Result")
        _compare(environment["DATABASE_URL"], sample)
        _say(f"Workers handled {sample.eligible:,} leads page by page. Each lead has a job, or a score of 1.")
        _say("The run's counts match the rows in the host's tables.")
        _say(f"The demo took {time.monotonic() - began:.0f} s, starting from an empty database.")
        if keep:
            _say(f"\nStaying up until Ctrl-C. Flower: {flower}")
            _say(f'To use `backfill` in another shell: export DATABASE_URL="{environment["DATABASE_URL"]}"')
            _say(f'  REDIS_URL="{environment["REDIS_URL"]}" BACKFILL_QUEUE="{environment["BACKFILL_QUEUE"]}"')
            threading.Event().wait()


def _compare(database_url: str, sample: Sample) -> None:
    """Compare the database with the counts of the sample that it was filled with."""
    with psycopg.connect(database_url) as connection:
        scored, pending = connection.execute(_OUTCOME).fetchone() or (0, 0)
    expected = (sample.disqualified, sample.inserted + sample.requeued + sample.refreshed)
    if (scored, pending) != expected:
        raise DemoError(
            f"the database has {scored:,} leads with a score of 1 and {pending:,} PENDING jobs, expected"
            f" {expected[0]:,} and {expected[1]:,}"
        )


@contextlib.contextmanager
def _database(url: str) -> Iterator[str]:
    """Create a database for the demo on a server, and drop it at the end."""
    name = f"demo_{secrets.token_hex(3)}"
    try:
        yield create_database(url, name)
    finally:
        drop_database(url, name)


@contextlib.contextmanager
def _fleet(directory: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Start two workers, beat and Flower, and yield Flower's address once all are ready."""
    port = _free_port()
    flower = f"http://127.0.0.1:{port}"
    # Flower's API refuses all requests unless there is a login; here Flower listens on this machine only.
    open_to_us = {**environment, "FLOWER_UNAUTHENTICATED_API": "true"}
    workers = [f"worker-{number}" for number in (1, 2)]
    with contextlib.ExitStack() as stack:
        for worker in workers:
            arguments = ["worker", "--concurrency=1", f"--hostname={worker}@%h"]
            stack.enter_context(_program(directory, environment, worker, "backfill", *arguments))
        beat = f"--schedule={directory / 'beat-schedule'}"
        stack.enter_context(_program(directory, environment, "beat", "backfill", "beat", beat))
        arguments = ["-A", "backfill_tasks", "flower", "--address=127.0.0.1", f"--port={port}"]
        stack.enter_context(_program(directory, open_to_us, "flower", "celery", *arguments))
        _wait_until_ready(directory, workers, flower)
        yield flower


def _wait_until_ready(directory: Path, workers: list[str], flower: str) -> None:
    for worker in workers:
        log = directory / f"{worker}.log"
        _wait(partial(_has_said, log, " ready."), log)
    _wait(partial(_answers, flower), directory / "flower.log")


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


def _backfill(directory: Path, environment: Mapping[str, str], *arguments: str) -> None:
    """Run the command in this terminal, as an operator does."""
    sys.stdout.flush()
    done = subprocess.run([PROGRAMS / "backfill", *arguments], cwd=directory, env=environment, check=False)  # noqa: S603 (our own command)
    if done.returncode:
        raise DemoError(f"`backfill {' '.join(arguments)}` ended with status {done.returncode}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _title(title: str, command: str = "") -> None:
    _say(f"\n== {title}" + (f"   $ {command}" if command else ""))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (the demo prints)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
