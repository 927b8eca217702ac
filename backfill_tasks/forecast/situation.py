"""The situation of a run, as a forecast needs it: what is left, how fast it has gone, and what bounds it."""

from dataclasses import dataclass, field
from typing import Literal

from backfill_tasks.engine.outcome import Ends
from backfill_tasks.engine.states import RunState
from backfill_tasks.forecast.history import History, history
from backfill_tasks.forecast.paths import Left
from backfill_tasks.options import Pace

_NO_ENDS = Ends(60.0, ())


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
        per_minute: how many leads the newest session has scored a minute; None: unknown.
        reach: how many more leads the budget pays for; None: unknown, there is none, or scoring costs nothing.
        cost: what a lead costs, and `spent` what all have cost so far, in the price list's currency.
        parallel, concurrency: the session's options.
        reason: why none is running, in words; empty: one is.
    """

    running: bool = False
    per_minute: float | None = None
    reach: float | None = None
    cost: float = 0.0
    spent: float = 0.0
    parallel: int = 0
    concurrency: int = 0
    reason: str = "no worker of ours is scoring"


@dataclass(frozen=True)
class Situation:
    """A run and its jobs at one moment.

    Attributes:
        state, why: the run's state, and the reason for it.
        waiting: how many of its jobs have not ended.
        ended: how many have.
        to_come: how many it will still enqueue; None: unknown.
        never_due: how many of the waiting ones come due in over a hundred years.
        ends: how its jobs have ended up to now. Times say nothing in which the run was paused, or had other options.
        due_seconds: until the last of the waiting jobs is due; 0: all are.
        spacing_seconds: the time between the due times of two jobs; None: they aren't spread.
        reserved: whether its jobs are reserved for our own workers.
        pages_seconds: how long the pages that are left take if no job holds them up; None: unknown.
        pace: the run's bounds.
        drain, scoring: see there.
    """

    state: RunState
    waiting: int
    ended: int
    to_come: Left | None
    ends: Ends = _NO_ENDS
    why: str | None = None
    never_due: int = 0
    due_seconds: float = 0.0
    spacing_seconds: float | None = None
    reserved: bool = False
    pages_seconds: float | None = None
    pace: Pace = field(default_factory=Pace)
    drain: Drain = field(default_factory=Drain)
    scoring: Scoring = field(default_factory=Scoring)

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

    @property
    def history(self) -> History | None:
        """How fast its jobs have ended so far; None before any has."""
        return history(self.ends.counts, self.ends.seconds, self.call_seconds)

    @property
    def call_seconds(self) -> float:
        """The time between two calls of whoever does the jobs."""
        return _BATCH_SECONDS if self.scoring.running else self.drain.call_seconds


#: How long a batch of our own workers takes, roughly.
_BATCH_SECONDS = 5.0
