"""The tool itself, as an operator uses it: the command, and a worker with one child for each lane."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.walk import BenchmarkError, Walk

_PROGRAMS = Path(sys.executable).parent
_READY_SECONDS = 60.0
UNBOUNDED = {
    "BACKFILL_JOBS_PER_MINUTE": "none",
    "BACKFILL_MAX_PENDING": "none",
    "BACKFILL_MAX_LIVE_WAIT": "0",
}
_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Tool:
    """The installed command on one database, and a worker in a queue of their own."""

    database_url: str
    redis_url: str
    directory: Path
    worker: int

    def run(self, *, lanes: int, limit: int) -> Walk:
        """Do a whole run and wait for its end. Its time is its own: from its row in the ledger to its finish."""
        arguments = ["run", "--apply", "--json", f"--lanes={lanes}", f"--limit={limit}"]
        done = subprocess.run(  # noqa: S603 (our own command)
            [_PROGRAMS / "backfill", *arguments],
            cwd=self.directory,
            env=_environment(self.database_url, self.redis_url, self.directory),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchmarkError(f"`backfill {' '.join(arguments)}` ended with {done.returncode}: {_last(done.stderr)}")
        found: dict[str, Any] = json.loads(done.stdout)
        if len(found["lanes"]) != lanes:
            raise BenchmarkError(f"a run had {len(found['lanes'])} lanes instead of {lanes}: give more --leads")
        return Walk(found["counts"]["read"], found["seconds"])

    def page_seconds(self) -> list[float]:
        """What each page took, as the ledger has it, in the order of the pages."""
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute("SELECT seconds FROM backfill.page ORDER BY run_id, lane, number").fetchall()
        return [seconds for (seconds,) in rows]


@contextmanager
def started(database_url: str, redis_url: str, *, children: int) -> Iterator[Tool]:
    """The tool with a worker that is ready for work, which ends with the block."""
    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as name:
        directory = Path(name)
        log = directory / "worker.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 (our own command)
                [
                    _PROGRAMS / "celery",
                    "-A",
                    "backfill_tasks",
                    "worker",
                    "--loglevel=info",
                    f"--concurrency={children}",
                ],
                cwd=directory,
                env=_environment(database_url, redis_url, directory),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _wait_until_ready(process, log)
            yield Tool(database_url, redis_url, directory, process.pid)
        finally:
            _stop(process)


def _environment(database_url: str, redis_url: str, directory: Path) -> dict[str, str]:
    """The environment of this process, with the tool's own defaults whatever it sets for the tool, but at full speed.

    What holds a run back beside a live host is off: the bounds on jobs, and the age of a queue that nobody drains. The
    pressure of the server itself is asked as it always is.
    """
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
    return {
        **foreign,
        **UNBOUNDED,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "BACKFILL_QUEUE": directory.name,
    }


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while " ready." not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchmarkError(f"the worker is not ready; it said last: {_last(log.read_text(errors='replace'))}")
        time.sleep(0.02)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["nothing"])[-1]
