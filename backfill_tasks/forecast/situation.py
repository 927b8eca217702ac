"""The situation of a run, as a forecast needs it: what is left, how fast it has gone, and what bounds it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from backfill_tasks.engine.states import RunState
from backfill_tasks.forecast.paths import Left
from backfill_tasks.options import Pace

Bucket = int
"""How many jobs ended in it."""


@dataclass(frozen=True)
class Drain:
    """What the host takes in a call, as far as that is known.

    Attributes:
        call_seconds: the time between two calls.
        live: how many live jobs a call takes, on average.
        least: how many jobs a call takes at least, live ones included.
        most: how many at most; None: no call has left any behind, so nothing shows the limit.
        starved: why live jobs leave no room for ours, in words; None: they leave some.
    """

    call_seconds: float = 60.0
    live: float = 0.0
    least: float = 0.0
    most: float | None = None
    starved: str | None = None


@dataclass(frozen=True)
class Scoring:
    """Our own workers.

    Attributes:
        running: whether a session is running, and its workers are alive.
        per_minute: how many leads they have scored a minute; None: unknown.
        reach: how many more leads the budget pays for; None: there is no budget, or scoring costs nothing.
        parallel, concurrency: the session's options.
        reason: why no session is running.
    """

    running: bool = False
    per_minute: float | None = None
    reach: float | None = None
    parallel: int = 0
    concurrency: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Situation:
    """A run and its jobs at one moment.

    Attributes:
        state, why: the run's state, and the reason for it.
        waiting: how many of its jobs have not ended.
        done: how many have.
        to_come: how many it will still enqueue; None: unknown.
        enqueued: how many it has enqueued, for the budget of jobs.
        never_due: how many of the waiting ones come due in over a hundred years.
        ends, bucket_seconds: how many of its jobs have ended in each of the last buckets, oldest first, up to now.
        due_seconds: until the last of the waiting jobs that comes due is due; 0: all are.
        spacing_seconds: the time between the due times of two jobs; None: they aren't spread.
        reserved: whether its jobs are reserved for our own workers.
        pages_seconds: how long the pages that are left take if no job holds them up; None: unknown.
        pace: the run's bounds.
        drain, scoring: see there.
    """

    state: RunState
    waiting: int
    done: int
    to_come: Left | None
    ends: Sequence[Bucket] = ()
    bucket_seconds: float = 60.0
    why: str | None = None
    enqueued: int = 0
    never_due: int = 0
    due_seconds: float = 0.0
    spacing_seconds: float | None = None
    reserved: bool = False
    pages_seconds: float | None = None
    pace: Pace = field(default_factory=Pace)
    drain: Drain = Drain()
    scoring: Scoring = Scoring()

    @property
    def bound(self) -> int | Literal["auto"] | None:
        """The bound on waiting jobs; None: there is none, or it doesn't apply to reserved jobs."""
        return None if self.reserved else self.pace.max_pending

    @property
    def left(self) -> Left | None:
        """How many jobs have yet to end, those to come included; None: unknown."""
        if self.to_come is None:
            return None
        return Left(self.waiting + self.to_come.jobs, self.to_come.deviation)
