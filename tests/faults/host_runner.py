"""The host's job runner, simulated: the older revision and the newest, called more often than in production."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

_RELEASE = """
UPDATE "BackgroundJob"
SET status = 'PENDING', "runAt" = now() AT TIME ZONE 'UTC', "lockedAt" = NULL, "lockedBy" = NULL, "startedAt" = NULL,
  "lastError" = 'Released stale RUNNING lock'
WHERE status = 'RUNNING' AND "lockedAt" < now() AT TIME ZONE 'UTC' - interval '1 second' * %s
"""
_DUE = """
SELECT id, "clientId", "leadId" FROM "BackgroundJob"
WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC' ORDER BY "runAt" LIMIT %s
"""
_CLAIM = """
UPDATE "BackgroundJob"
SET status = 'RUNNING', "lockedAt" = now() AT TIME ZONE 'UTC', "lockedBy" = %s, attempts = attempts + 1,
  "startedAt" = now() AT TIME ZONE 'UTC'
WHERE id = %s AND status = 'PENDING'
"""
_SCORE = """
UPDATE "Lead" SET "fitScore" = 2, "intentScore" = 2, "overallScore" = 2, "scoredAt" = now() AT TIME ZONE 'UTC',
  "scoreReasoning" = 'the host' WHERE id = %s AND "clientId" = %s
"""
_SUCCEED = """
UPDATE "BackgroundJob"
SET
  status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC', "lockedAt" = NULL, "lockedBy" = NULL,
  "lastError" = NULL
WHERE id = %s
"""
_FAIL = """
UPDATE "BackgroundJob"
SET
  status = (CASE WHEN attempts < "maxAttempts" THEN 'PENDING' ELSE 'FAILED' END)::"BackgroundJobStatus",
  "runAt" = CASE WHEN attempts < "maxAttempts"
    THEN now() AT TIME ZONE 'UTC' + interval '1 second' * (least(900, power(2, attempts)) + random()) ELSE "runAt" END,
  "finishedAt" = CASE WHEN attempts < "maxAttempts" THEN NULL ELSE now() AT TIME ZONE 'UTC' END,
  "lockedAt" = NULL, "lockedBy" = NULL, "lastError" = '503'
WHERE id = %s
"""


@dataclass
class HostRunner:
    """One revision of the host's runner. `fair`: the newest, which shares a call out between workspaces."""

    url: str
    name: str
    limit: int
    fair: bool
    every: float = 1.0
    stale_seconds: float = 60.0
    seconds: float = 0.05
    failing: float = 0.1
    ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Call the cron route over and over while the block runs."""
        thread = threading.Thread(target=self._calls)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()

    def _calls(self) -> None:
        while not self.ended.wait(self.every):
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(_RELEASE, [self.stale_seconds])
                chosen = self._chosen(connection)
            with ThreadPoolExecutor(4 if self.fair else 1) as pool:
                list(pool.map(self._work, chosen))

    def _chosen(self, connection: "psycopg.Connection[Any]") -> list[tuple[str, str, str]]:
        if not self.fair:
            return connection.execute(_DUE, [self.limit]).fetchall()
        waiting = connection.execute(_DUE, [min(200, 4 * self.limit)]).fetchall()
        turns: dict[str, int] = {}
        ordered = []
        for place, job in enumerate(waiting):
            turn = turns[job[1]] = turns.get(job[1], 0) + 1
            ordered.append((turn, place, job))
        return [job for turn, _, job in sorted(ordered) if turn <= self.limit][: self.limit]

    def _work(self, job: tuple[str, str, str]) -> None:
        ident, client, lead = job
        with psycopg.connect(self.url, autocommit=True) as connection:
            if not connection.execute(_CLAIM, [self.name, ident]).rowcount:
                return
            self.ended.wait(self.seconds)
            if random.random() < self.failing:  # noqa: S311
                connection.execute(_FAIL, [ident])
                return
            connection.execute(_SCORE, [lead, client])
            connection.execute(_SUCCEED, [ident])
