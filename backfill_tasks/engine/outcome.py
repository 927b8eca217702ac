"""The outcome of a run's jobs: what has become of the items that the run has enqueued."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

#: The window over which the host's rate is measured, and the shortest one that gives a rate, in seconds.
LATELY_SECONDS, ENOUGH_SECONDS = 600.0, 120.0


#: The shortest and the usual length of a bucket of ended jobs in seconds, and the fewest and the most buckets.
_SHORTEST, _USUAL, _FEWEST, _MOST = 10.0, 60.0, 30, 240


def bucket_seconds(seconds: float) -> float:
    """Return the length of a bucket for the history of so many seconds: short at first, later a 240th of it.

    Hosts are called once a minute, so counts of a minute and more scatter least.
    """
    return max(_SHORTEST, min(_USUAL, seconds / _FEWEST), seconds / _MOST)


@dataclass(frozen=True)
class Ends:
    """How many jobs have ended in each bucket of `seconds`, oldest first. The last bucket ends now."""

    seconds: float
    counts: Sequence[int]

    @classmethod
    def by_age(cls, bucket: float, total: float, jobs: Mapping[int, int]) -> "Ends":
        """Return the ends of the last `total` seconds, given their numbers by the bucket's age: 0 ends now."""
        number = max(1, ceil(total / bucket))
        return cls(bucket, [jobs.get(age, 0) for age in reversed(range(number))])


@dataclass(frozen=True)
class Outcome:
    """The state of a run's jobs in the host's queue. Each item that the run has enqueued is in one place.

    Attributes:
        jobs: the number of jobs by the host's status.
        unended: how many of them the host has yet to finish.
        done: how many of the items have their result.
        oldest_due_at: the due time of the oldest due job; None: none is due.
        last_due_at: the due time of the last waiting job that will ever come due; None: none waits.
        never_due: how many come due in over a hundred years, so the host never runs them.
        per_minute: how many jobs the host finished per minute recently; None: too early to tell.
        seen_at: when this was read.
        known: False for a run of an older version, which kept no record of its jobs; the other fields are then void.
        done_by: `done` by who gave the result (see `Backfill.done_by`).
        waiting: `unended` by what the job waits for: due, later, running, never_due.
        without: how many items got no result although their job has ended or is gone, by reason (see
            `Backfill.without_result`).
        taken_over: how many items a later run has enqueued again; they count for that run only.
        ends: how many of the jobs have ended over time, since the run's start; None: unknown.
    """

    jobs: Mapping[str, int]
    unended: int
    done: int
    oldest_due_at: datetime | None
    last_due_at: datetime | None
    per_minute: float | None
    seen_at: datetime
    known: bool = True
    never_due: int = 0
    done_by: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    without: Mapping[str, int] = field(default_factory=dict)
    taken_over: int = 0
    ends: Ends | None = None

    @property
    def enqueued(self) -> int:
        """How many items the run had enqueued when this was read: the sum of all places."""
        return self.done + self.unended + self.without_result + self.taken_over

    @property
    def without_result(self) -> int:
        """How many items got no result although their job has ended or is gone."""
        return sum(self.without.values())

    @property
    def oldest_seconds(self) -> float | None:
        """For how many seconds the oldest due job has waited; None: none is due."""
        return None if self.oldest_due_at is None else (self.seen_at - self.oldest_due_at).total_seconds()

    def seconds_left(self, to_come: int | None) -> float | None:
        """Estimate the seconds until the host has done these jobs and `to_come` more; None if it can't be estimated.

        `to_come` is None if unknown.
        """
        if to_come is None or not self.known or self.never_due:
            return None
        left = self.unended + to_come
        if not left:
            return 0.0
        if not self.per_minute:
            return None
        due = 0.0 if self.last_due_at is None else (self.last_due_at - self.seen_at).total_seconds()
        return max(60 * left / self.per_minute, due)

    def as_json(self, to_come: int | None) -> dict[str, object]:
        """Return the outcome as shown by `status --json`.

        `to_come` is the number of jobs the run will still enqueue; None if unknown.
        """
        left = self.seconds_left(to_come)
        return {
            "known": self.known,
            "jobs": dict(self.jobs) if self.known else None,
            "done": self.done if self.known else None,
            "oldest_due_at": self.oldest_due_at and self.oldest_due_at.isoformat(timespec="milliseconds"),
            "never_due": self.never_due if self.known else None,
            "per_minute": self.per_minute,
            "seconds_left": None if left is None else round(left),
        }
