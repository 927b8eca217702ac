"""The host's job queue in compressed time: the cron that drains it, and webhooks that enqueue live jobs.

Both are real clients of a real database; only time runs faster. The model follows the host's rules: once a minute, on
the minute, the cron releases stale jobs, chooses due jobs of all types, claims them one by one and finishes each. Which
it chooses depends on its revision:

- *older*: the oldest, up to its limit;
- *newer*: of the oldest, four times the limit but 200 at most, no more than the limit from one workspace, then
  round-robin over the workspaces, up to the limit.

Not modelled: jobs that take time or fail (each succeeds at once), and more than one cron.
"""

import math
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import psycopg

from benchmarks.walk import BenchmarkError

T = TypeVar("T")

Runner = Literal["older", "newer"]

#: How many jobs the cron takes per minute, unless a simulation says otherwise.
DRAIN = 20

#: The pool from which the newer runner chooses, in multiples of its limit, and the largest.
_POOL, _LARGEST_POOL = 4, 200

_STALE_MINUTES = 10
#: How long live jobs may keep waiting after the last one has arrived, in minutes.
_PATIENCE_MINUTES = 240

_MESSAGES = """
SELECT message.id, lead.id, lead."clientId"
FROM "Message" AS message JOIN "Lead" AS lead ON lead.id = message."leadId"
ORDER BY message.id LIMIT 1000
"""

_ENQUEUE = """
INSERT INTO "BackgroundJob" (id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt")
VALUES (
  %(id)s, 'EMAIL_INBOUND_POST_PROCESS', 'PENDING', %(id)s, %(client)s, %(lead)s, %(message)s,
  now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
)
"""

_RELEASE = """
UPDATE "BackgroundJob"
SET status = 'PENDING', "runAt" = now() AT TIME ZONE 'UTC', "lockedAt" = NULL, "lockedBy" = NULL, "startedAt" = NULL,
  "lastError" = 'Released stale RUNNING lock', "updatedAt" = now() AT TIME ZONE 'UTC'
WHERE status = 'RUNNING' AND "lockedAt" < now() AT TIME ZONE 'UTC' - %s * interval '1 second'
"""
_DUE = """
SELECT id, "clientId" FROM "BackgroundJob"
WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
ORDER BY "runAt" LIMIT %s
"""
_CLAIM = """
UPDATE "BackgroundJob"
SET status = 'RUNNING', "lockedAt" = now() AT TIME ZONE 'UTC', "lockedBy" = 'cron', attempts = attempts + 1,
  "startedAt" = now() AT TIME ZONE 'UTC', "updatedAt" = now() AT TIME ZONE 'UTC'
WHERE id = %s AND status = 'PENDING'
"""
_FINISH = """
UPDATE "BackgroundJob"
SET status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC', "lockedAt" = NULL, "lockedBy" = NULL,
  "lastError" = NULL, "updatedAt" = now() AT TIME ZONE 'UTC'
WHERE id = %s
"""

_LIVE_LEFT = """
SELECT EXISTS (
  SELECT FROM "BackgroundJob" WHERE status = 'PENDING' AND type <> 'LEAD_SCORING_POST_PROCESS'
)
"""
_STARTED = """
SELECT
  type = 'LEAD_SCORING_POST_PROCESS',
  extract(epoch FROM "startedAt" - "runAt")::float,
  "startedAt" < to_timestamp(%s) AT TIME ZONE 'UTC',
  extract(epoch FROM "startedAt")::float
FROM "BackgroundJob"
WHERE "startedAt" IS NOT NULL
"""


@dataclass(frozen=True)
class Clock:
    """The host's time, `factor` times as fast as real time. It is zero on one of its own whole minutes."""

    factor: float
    began: float

    @classmethod
    def start(cls, factor: float) -> "Clock":
        """Return a clock that reaches zero at its next whole minute."""
        minute = 60 / factor
        return cls(factor, math.ceil(time.time() / minute) * minute)

    def wait_for(self, second: float) -> float:
        """Sleep until the given second of the host's time. Return how late it was, in the host's seconds."""
        due = self.real(second)
        time.sleep(max(0.0, due - time.time()))
        return (time.time() - due) * self.factor

    def real(self, second: float) -> float:
        """Return the Unix time of a second of the host's time."""
        return self.began + second / self.factor

    def second(self, real: float) -> float:
        """Return the second of the host's time at a Unix time."""
        return (real - self.began) * self.factor


@dataclass(frozen=True)
class Day:
    """The result of a simulation, in the host's time.

    Attributes:
        waits: the live jobs' waits, from runAt to startedAt, in seconds, sorted.
        used: the share of the spare capacity (what live jobs leave) that the backfill used.
        late: the largest delay of the cron or of a webhook, in seconds.
        ours: our jobs that the host took in each minute; the first is taken at second 60.
    """

    waits: Sequence[float]
    used: float
    late: float
    ours: Sequence[int] = ()


def arrivals(per_minute: Sequence[float], seed: int) -> list[float]:
    """Return the arrival times of live jobs, in seconds: a Poisson process, reproducible by its seed.

    Args:
        per_minute: the average of each minute.
        seed: picks one of many days with the same averages.
    """
    chance = random.Random(seed)  # noqa: S311 (nothing is kept secret)
    most = max(per_minute)
    times: list[float] = []
    minute = chance.expovariate(most)
    while minute < len(per_minute):
        if chance.random() * most < per_minute[int(minute)]:
            times.append(60 * minute)
        minute += chance.expovariate(most)
    return times


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile `share` of sorted values, by nearest rank."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def chosen(due: Sequence[T], limit: int, runner: Runner, workspace: Callable[[T], object]) -> Sequence[T]:
    """Return the jobs that a runner chooses of the due ones, which are sorted oldest first."""
    if runner == "older":
        return due[:limit]
    pools: dict[object, list[T]] = defaultdict(list)
    for each in due[: min(_LARGEST_POOL, _POOL * limit)]:
        pools[workspace(each)].append(each)
    turns = ((turn, job) for pool in pools.values() for turn, job in enumerate(pool[:limit]))
    return [job for _, job in sorted(turns, key=lambda each: each[0])][:limit]


def simulate(
    database_url: str,
    arrivals: Sequence[float],
    *,
    minutes: int,
    factor: float,
    limit: Callable[[int], int] = lambda _minute: DRAIN,
    runner: Runner = "older",
) -> Day:
    """Let live jobs arrive and the cron drain the queue for `minutes`, and until no live job waits.

    `limit`: how many jobs a call takes, by minute.

    Raises:
        BenchmarkError: live jobs still wait hours after the last one has arrived.
    """
    clock = Clock.start(factor)
    all_came = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        webhooks = pool.submit(_webhooks, database_url, clock, arrivals, all_came)
        cron = pool.submit(_cron, database_url, clock, minutes, all_came, limit, runner)
        late = max(webhooks.result(), cron.result())
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(_STARTED, [clock.real(60 * minutes + 30)]).fetchall()
    live = [in_time for ours, _, in_time, _ in rows if not ours]
    ours = [in_time for ours, _, in_time, _ in rows if ours]
    taken = Counter(int(clock.second(at) // 60) for is_ours, _, _, at in rows if is_ours)
    return Day(
        waits=sorted(factor * wait for ours, wait, _, _ in rows if not ours),
        used=sum(ours) / (sum(limit(minute) for minute in range(1, minutes + 1)) - sum(live)),
        late=late,
        ours=[taken[minute] for minute in range(1, minutes + 1)],
    )


def _webhooks(database_url: str, clock: Clock, arrivals: Sequence[float], all_came: threading.Event) -> float:
    """Enqueue a live job at each arrival time. Return the largest delay, in the host's seconds."""
    late = 0.0
    try:
        with psycopg.connect(database_url, autocommit=True) as connection:
            messages = connection.execute(_MESSAGES).fetchall()
            for number, second in enumerate(arrivals):
                message, lead, client = messages[number % len(messages)]
                late = max(late, clock.wait_for(second))
                values = {"id": f"live-{number}", "client": client, "lead": lead, "message": message}
                connection.execute(_ENQUEUE, values)
    finally:
        all_came.set()
    return late


def _cron(
    database_url: str,
    clock: Clock,
    minutes: int,
    all_came: threading.Event,
    limit: Callable[[int], int],
    runner: Runner,
) -> float:
    """Drain the queue each minute. Return the largest delay, in the host's seconds."""
    late = 0.0
    with psycopg.connect(database_url, autocommit=True) as connection:
        for minute in range(1, minutes + _PATIENCE_MINUTES):
            late = max(late, clock.wait_for(60 * minute))
            connection.execute(_RELEASE, [60 * _STALE_MINUTES / clock.factor])
            _drain(connection, limit(minute), runner)
            if minute >= minutes and all_came.is_set() and connection.execute(_LIVE_LEFT).fetchone() == (False,):
                return late
    raise BenchmarkError(f"live jobs still wait {_PATIENCE_MINUTES} minutes after the last one arrived")


def _drain(connection: "psycopg.Connection[tuple[object, ...]]", limit: int, runner: Runner) -> None:
    due = connection.execute(_DUE, [max(_LARGEST_POOL, limit)]).fetchall()
    for job, _ in chosen(due, limit, runner, lambda each: each[1]):
        if connection.execute(_CLAIM, [job]).rowcount:
            connection.execute(_FINISH, [job])
