"""Checks that the clocks of PostgreSQL and Redis agree with this machine's."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.engine import redis_client

#: The largest difference that needs no attention, in seconds.
_MOST = 2.0

#: How often a clock is read: the fastest answer is the most precise.
_TRIES = 5


@dataclass(frozen=True)
class Difference:
    """How many seconds a clock is ahead of this machine's, and the largest error (half of the round trip)."""

    seconds: float
    within: float

    @property
    def certain(self) -> float:
        """The smallest difference that the measurement allows."""
        return max(0.0, abs(self.seconds) - self.within)


def difference(read: Callable[[], float], now: Callable[[], float] = time.time) -> Difference:
    """Return how far a remote clock is ahead of `now`, from the fastest of several readings; both in Unix time."""
    found = []
    for _ in range(_TRIES):
        before = now()
        there = read()
        after = now()
        found.append(Difference(there - (before + after) / 2, (after - before) / 2))
    return min(found, key=lambda each: each.within)


def postgresql(context: CommandContext) -> Iterator[Finding]:
    """Check PostgreSQL's clock."""
    with context.parts.engine.begin() as connection:

        def read() -> float:
            return float(
                connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
            )

        yield _judged("PostgreSQL", difference(read))


def redis(context: CommandContext) -> Iterator[Finding]:
    """Check Redis' clock."""
    client = redis_client.connect(context.settings.redis_url, patience=1)

    def read() -> float:
        seconds, microseconds = client.time()
        return float(seconds) + float(microseconds) / 1_000_000

    yield _judged("Redis", difference(read))


def _judged(whose: str, found: Difference) -> Finding:
    if found.certain <= _MOST:
        within = math.ceil(10 * (abs(found.seconds) + found.within)) / 10
        return Finding("fine", f"the clocks of {whose} and this machine agree within {within:.1f} s")
    side = "ahead of" if found.seconds > 0 else "behind"
    return Finding(
        "look",
        f"the clock of {whose} is {abs(found.seconds):,.1f} s {side} this machine's",
        "Due times, the rate and waits use different clocks, so jobs may come due too early or too late. Set all clocks"
        " by NTP.",
    )
