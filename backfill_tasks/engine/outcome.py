"""What the host makes of the jobs that a run has written: the other half of the work."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

#: Over how many seconds it is counted what the host ends, and how many of them it takes to know.
LATELY_SECONDS, ENOUGH_SECONDS = 600.0, 120.0


@dataclass(frozen=True)
class Outcome:
    """The jobs of a run as they stand in the host's queue.

    Attributes:
        jobs: how many, by status, in the host's words.
        unended: how many of them it has still to do.
        done: how many items have their result from it.
        oldest_due_at: since when the oldest due one waits; None: none is due.
        last_due_at: when the last one falls due that ever does; None: none waits.
        never_due: how many are due in over a hundred years, so that the host never does them.
        per_minute: how many it has ended a minute lately; None: too early to tell.
        seen_at: when this was so.
        known: False for a run of an older version, which kept no record of its jobs; then the rest says nothing.
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

    @property
    def without_result(self) -> int:
        """How many have ended and left no result."""
        return sum(self.jobs.values()) - self.unended - self.done

    @property
    def oldest_seconds(self) -> float | None:
        """For how long the oldest due job has waited; None: none is due."""
        return None if self.oldest_due_at is None else (self.seen_at - self.oldest_due_at).total_seconds()

    def seconds_left(self, to_come: int | None) -> float | None:
        """In how long the host will have done these jobs and `to_come` more (None: unknown); None: it can't be told."""
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
        """As `status --json` has it; `to_come`: how many more jobs the run will enqueue, None: unknown."""
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
