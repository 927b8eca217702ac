"""The road of a run's items: from eligible, over enqueued, to their result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Outcome


@dataclass(frozen=True)
class Road:
    """How far a run's items have come.

    The ledger's part adds up: `read` = `enqueued` + `at_once` + `left_alone` + `quarantined`. So does the part of the
    host's tables, as of the moment at which it was read: `outcome.enqueued` is the sum of its places. While pages are
    done, `enqueued` may be ahead of it.

    Attributes:
        eligible: how many items the run is about; see `is_counted`.
        is_counted: whether `eligible` was counted, before the start or by reading all of them; False: it is a lower
            bound.
        is_read: whether the run has read all of them.
        read: how many its pages have read.
        enqueued: how many have a job that a page of this run wrote.
        at_once: how many need no job: their page gave them their result.
        left_alone: how many kept the job that they had, which is none of this run's.
        quarantined: how many are in quarantine.
        outcome: what has become of the enqueued ones; None: the backfill has no jobs, or they can't be counted now.
        has_jobs: whether the backfill has jobs.
    """

    eligible: int
    is_counted: bool
    is_read: bool
    read: int
    enqueued: int
    at_once: int
    left_alone: int
    quarantined: int
    outcome: Outcome | None
    has_jobs: bool

    @classmethod
    def of(cls, backfill: Backfill, run: Run, outcome: Outcome | None) -> Self:
        """Return the road of a run."""
        counts, is_read = run.counts, run.state == "complete"
        read, expected = counts.get("read", 0), run.expected or 0
        writes = backfill.enqueues or backfill.jobs
        at_once = [name for name in backfill.classes if name not in {*writes, *backfill.leaves_alone}]
        return cls(
            eligible=read if is_read else max(read, expected),
            is_counted=is_read or expected >= max(read, 1),
            is_read=is_read,
            read=read,
            enqueued=sum(counts.get(name, 0) for name in writes),
            at_once=sum(counts.get(name, 0) for name in at_once),
            left_alone=sum(counts.get(name, 0) for name in backfill.leaves_alone),
            quarantined=counts.get("quarantined", 0),
            outcome=outcome if outcome is not None and outcome.known else None,
            has_jobs=bool(backfill.jobs),
        )

    @property
    def to_enqueue(self) -> int:
        """How many items need a job, as far as known: those that are not read yet are expected to."""
        return self.eligible - self.at_once - self.left_alone - self.quarantined

    @property
    def done(self) -> int | None:
        """How many items have their result, with or without a job; None: their jobs can't be counted now."""
        if not self.has_jobs:
            return self.at_once
        return None if self.outcome is None else self.at_once + self.outcome.done

    @property
    def waiting(self) -> int | None:
        """How many items wait for their result, read or not; None: their jobs can't be counted now."""
        unread = self.eligible - self.read
        if not self.has_jobs:
            return unread
        if self.outcome is None:
            return None
        return unread + max(0, self.enqueued - self.outcome.enqueued) + self.outcome.unended

    @property
    def has_ended(self) -> bool:
        """Whether every item has its result, or will get none by itself."""
        return self.is_read and self.waiting == 0

    @property
    def without_result(self) -> int:
        """How many items have no result and get none by themselves: quarantined, or without one after their job."""
        return self.quarantined + (0 if self.outcome is None else self.outcome.without_result)

    def as_json(self) -> dict[str, Any]:
        """Return the road as `status --json` prints it (docs/reference/json.md)."""
        found = self.outcome
        return {
            "eligible": self.eligible,
            "eligible_is_counted": self.is_counted,
            "read": self.read,
            "enqueued": self.enqueued,
            "at_once": self.at_once,
            "left_alone": self.left_alone,
            "quarantined": self.quarantined,
            "has_ended": self.has_ended,
            "done": self.done,
            "jobs": None if found is None else _places(found),
        }


def _places(found: Outcome) -> Mapping[str, Any]:
    return {
        "enqueued": found.enqueued,
        "done": dict(found.done_by),
        "waiting": dict(found.waiting),
        "without_result": dict(found.without),
        "taken_over": found.taken_over,
    }
