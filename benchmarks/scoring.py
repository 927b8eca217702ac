"""`python -m benchmarks.scoring`: how fast jobs are scored by a scorer that only waits, and with how much memory.

One worker with so many requests in flight could at best score all jobs in jobs / in flight x latency. The rest is what
claiming, reading and writing take. A worker has two processes, so one claims and writes while the other one's requests
are in flight.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from benchmarks import memory
from benchmarks.tool import FULL_SPEED, Tool, environment, worker
from sandbox.host.sample import create_schema
from sandbox.servers import create_database, drop_database, servers

#: The processes of a worker, which share its requests in flight.
_PROCESSES = 2

#: The scorer, in a package of its own, as anybody's. Its model costs money, so every batch keeps to a budget, too.
_SCORER = """
import asyncio
from backfill_tasks.scoring.contract import Score, Scorer, Usage

class Slow(Scorer):
    name = "slow"
    model = "gpt-5-nano"

    def upper_bound(self, conversation):
        return Usage(1_000, 100)

    async def score(self, conversation):
        await asyncio.sleep({seconds})
        return Score(3, 3, 3, "slow", Usage(900, 80))
"""
_METADATA = "Metadata-Version: 2.1\nName: slow-scorer\nVersion: 1.0\n"
_ENTRY_POINTS = "[backfill.scorers]\nslow = slow_scorer:Slow\n"

_JOBS = """
INSERT INTO "Client" (id, name, "userId", "updatedAt")
SELECT 'client-' || number, 'client', 'user', now() FROM generate_series(0, 19) AS number;

INSERT INTO "Lead" (id, "clientId", "updatedAt")
SELECT 'lead-' || number, 'client-' || number %% 20, now() FROM generate_series(1, %(jobs)s) AS number;

INSERT INTO "Message" (id, "leadId", direction, body, "sentAt")
SELECT
  'message-' || number || '-' || turn, 'lead-' || number, CASE turn %% 2 WHEN 0 THEN 'inbound' ELSE 'outbound' END,
  repeat('How much does it cost, and when could you begin? ', 20), now() + turn * interval '1 hour'
FROM generate_series(1, %(jobs)s) AS number CROSS JOIN generate_series(0, 5) AS turn;

INSERT INTO "BackgroundJob" (
  id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "maxAttempts", "updatedAt"
)
SELECT
  'job-' || number, 'LEAD_SCORING_POST_PROCESS', 'PENDING', 'lead_scoring_backfill:lead-' || number,
  'client-' || number %% 20, 'lead-' || number, 'message-' || number || '-0', now() + interval '1 day', 3, now()
FROM generate_series(1, %(jobs)s) AS number;
"""


@dataclass(frozen=True)
class Measured:
    """One measurement. `peak`: the most resident memory of a process, in MB; `growth`: the largest growth of one."""

    workers: int
    scored: int
    seconds: float
    ideal: float
    peak: float
    growth: float

    def __str__(self) -> str:
        return (
            f"{self.workers} worker{'s' if self.workers > 1 else ''}: {self.scored:,} scored in"
            f" {self.seconds:.1f} s, {self.seconds / self.ideal:.2f} x ideal ({self.ideal:.1f} s);"
            f" peak {self.peak:.0f} MB a process, growth x {self.growth:.2f}"
        )


def main() -> int:
    """Measure with one worker and with two, and print both."""
    arguments = _parse()
    with servers() as started, _scorer(arguments.latency) as folder:
        for workers in (1, 2):
            name = f"backfill_scoring_{workers}_{os.getpid()}"
            make = started.postgres.create_database if started.postgres else None
            url = make(name) if make else create_database(started.database_url, name)
            try:
                print(_measure(url, started.redis_url, folder, workers, arguments), flush=True)  # noqa: T201
            finally:
                drop_database(started.database_url, name)
    return 0


def _measure(url: str, redis_url: str, folder: Path, workers: int, arguments: argparse.Namespace) -> Measured:
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection)
        psycopg.ClientCursor(connection).execute(_JOBS, {"jobs": arguments.jobs})
        connection.execute("VACUUM ANALYZE")
    settings = {**FULL_SPEED, "PYTHONPATH": str(folder)}
    with tempfile.TemporaryDirectory(prefix="backfill-scoring-") as name, ExitStack() as stack:
        queue = Path(name)
        samples = []
        for number in range(workers):
            process = stack.enter_context(
                worker(
                    url,
                    redis_url,
                    queue,
                    children=_PROCESSES,
                    name=f"scorer-{number}",
                    settings=settings,
                    consumes=f"{queue.name}.scoring",
                )
            )
            samples.append(stack.enter_context(memory.watched(process)))
        tool = Tool(queue, process, url, environment(url, redis_url, queue, settings))
        session = tool.score(
            "--scorer=slow",
            "--max-spend=100",
            f"--batch={arguments.batch}",
            f"--concurrency={arguments.in_flight // _PROCESSES}",
            f"--parallel={workers * _PROCESSES}",
        )
    began, ended = (datetime.fromisoformat(session[name]) for name in ("started_at", "finished_at"))
    every = [each for found in samples for each in found.values()]
    return Measured(
        workers,
        session["counts"]["scored"],
        (ended - began).total_seconds(),
        arguments.jobs / arguments.in_flight * arguments.latency / workers,
        max(max(each) for each in every) / 1e6,
        max(memory.growth(each) for each in every),
    )


@contextmanager
def _scorer(seconds: float) -> Iterator[Path]:
    """Yield a folder with the scorer's package."""
    with tempfile.TemporaryDirectory(prefix="backfill-scorer-") as name:
        folder = Path(name)
        (folder / "slow_scorer.py").write_text(_SCORER.format(seconds=seconds), encoding="utf-8")
        metadata = folder / "slow_scorer-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(_METADATA, encoding="utf-8")
        (metadata / "entry_points.txt").write_text(_ENTRY_POINTS, encoding="utf-8")
        yield folder


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000, help="how many jobs (default: 5000)")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that a request takes (default: 0.2)")
    parser.add_argument("--in-flight", type=int, default=64, help="requests of a worker at once (default: 64)")
    parser.add_argument("--batch", type=int, default=256, help="jobs that a batch claims (default: 256)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
