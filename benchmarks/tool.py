"""The tool as an operator uses it: the command, and a worker with one child per lane."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.walk import BenchmarkError, Walk

_PROGRAMS = Path(sys.executable).parent
_READY_SECONDS = 60.0

#: Full speed, at the page size asked for: the limits that protect a live host are off, except for the pressure of the
#: server itself.
FULL_SPEED = {
    "BACKFILL_JOBS_PER_MINUTE": "none",
    "BACKFILL_MAX_PENDING": "none",
    "BACKFILL_DRAIN_SECONDS": "none",
    "BACKFILL_MAX_LIVE_WAIT": "0",
    "BACKFILL_TARGET_PAGE_MS": "0",
    "BACKFILL_BUSY_LIMIT": "none",
}

_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Tool:
    """The installed command and a worker, on one database and one queue of their own."""

    directory: Path
    worker: int
    database_url: str
    environment: Mapping[str, str] = field(repr=False)

    def init(self) -> None:
        """Create the ledger, so that it can be queried before the first run creates it."""
        self._command("init")

    def run(self, *, lanes: int, limit: int) -> Walk:
        """Do a whole run and wait for its end. Its time counts from its row in the ledger to its finish."""
        found: dict[str, Any] = json.loads(
            self._command("run", "--apply", "--json", f"--lanes={lanes}", f"--limit={limit}")
        )
        if len(found["lanes"]) != lanes:
            raise BenchmarkError(f"a run had {len(found['lanes'])} lanes instead of {lanes}: give more --leads")
        return Walk(found["counts"]["read"], found["seconds"])

    @contextmanager
    def under_way(self, *options: str) -> Iterator[None]:
        """Keep a run with these options going while the block runs; cancel it afterwards."""
        run = json.loads(self._command("run", "--apply", "--json", "--detach", *options))["run_id"]
        yield
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT state, reason FROM backfill.run WHERE id = %s", [run]).fetchone()
        if row is not None and row[0] == "running":
            self._command("cancel", run)
        elif row is None or row[0] != "complete":
            raise BenchmarkError(f"the run ended on its own: {row}")

    def leads_read(self) -> int:
        """Return how many leads its runs have read so far."""
        with psycopg.connect(self.database_url) as connection:
            query = "SELECT coalesce(sum((counts ->> 'read')::int), 0) FROM backfill.lane"
            ((number,),) = connection.execute(query).fetchall()
        return int(number)

    def page_seconds(self) -> list[float]:
        """Return the duration of each page, from the ledger, in page order."""
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute("SELECT seconds FROM backfill.page ORDER BY run_id, lane, number").fetchall()
        return [seconds for (seconds,) in rows]

    def _command(self, *arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 (our own command)
            [_PROGRAMS / "backfill", *arguments],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchmarkError(f"`backfill {' '.join(arguments)}` ended with {done.returncode}: {_last(done.stderr)}")
        return done.stdout


@contextmanager
def started(
    database_url: str, redis_url: str, *, children: int, settings: Mapping[str, str] = FULL_SPEED
) -> Iterator[Tool]:
    """Yield the tool with a worker that is ready; the worker ends with the block.

    Args:
        database_url: the host database.
        redis_url: the broker.
        children: the worker's processes.
        settings: the tool's settings; all others have their defaults.
    """
    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as name:
        directory = Path(name)
        environment = _environment(database_url, redis_url, directory, settings)
        with worker(database_url, redis_url, directory, children=children, settings=settings) as process:
            yield Tool(directory, process, database_url, environment)


@contextmanager
def worker(
    database_url: str,
    redis_url: str,
    directory: Path,
    *,
    children: int,
    name: str = "worker",
    settings: Mapping[str, str] = FULL_SPEED,
) -> Iterator[int]:
    """Run a worker on the queue of a directory while the block runs; yield its process id once it is ready."""
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 (our own command)
            [
                _PROGRAMS / "backfill",
                "worker",
                f"--concurrency={children}",
                f"--hostname={name}@%h",
            ],
            cwd=directory,
            env=_environment(database_url, redis_url, directory, settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, log)
        yield process.pid
    finally:
        _stop(process)


def _environment(database_url: str, redis_url: str, directory: Path, settings: Mapping[str, str]) -> Mapping[str, str]:
    """Return this process's environment; of the tool's own variables only these settings."""
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
    return {
        **foreign,
        **settings,
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
