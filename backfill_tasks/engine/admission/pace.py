"""Pace: how fast a run may go. An operator may change it while the run goes on; no page needs to know that it was."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

#: A page that took too long makes the next one smaller in proportion, but not below this share of it at once: one slow
#: page may have been bad luck.
_LEAST_SHARE = 0.25

#: A page that took less than this share of the target lets the next one grow, by this share of the limit. Fast down and
#: slowly up, as TCP does it: whoever comes too near to the edge spends little time there (RFC 5681, section 3.1).
_ROOMY_SHARE = 0.8
_GROWTH_SHARE = 0.05


@dataclass(frozen=True)
class Pace:
    """A run's bounds. None: no bound; for `max_live_wait` and `target_page_ms` that is 0.

    Attributes:
        jobs_per_minute: how many of the run's jobs come due a minute.
        max_pending: how many jobs of the backfill's the host may have before it that are not done. Live jobs that are
            due take of this room: they go first.
        max_jobs: how many jobs the run may enqueue in all.
        max_live_wait: how long the oldest due job of any other kind may have waited, in seconds, for a page to start.
        target_page_ms: what a page should take, in milliseconds; its size follows.
    """

    jobs_per_minute: float | None = None
    max_pending: int | None = None
    max_jobs: int | None = None
    max_live_wait: float = 0.0
    target_page_ms: int = 0

    @property
    def spacing_ms(self) -> float | None:
        """The time between two jobs that come due, in milliseconds; None where they are not spread."""
        return None if self.jobs_per_minute is None else 60_000 / self.jobs_per_minute

    @property
    def bounds_jobs(self) -> bool:
        """Whether any bound says how many jobs there may be, or when they are due."""
        return (self.jobs_per_minute, self.max_pending, self.max_jobs) != (None, None, None)

    def as_json(self) -> dict[str, Any]:
        """The bounds by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`. Raises KeyError where a bound is missing."""
        return cls(**{each.name: values[each.name] for each in fields(cls)})


#: A pace's bounds, by name.
BOUNDS = tuple(each.name for each in fields(Pace))


def next_size(size: int, *, limit: int, used: int, seconds: float, target_ms: int) -> int:
    """How many items the next page may hold: between 1 and `limit`.

    Args:
        size: what the last page might have held.
        limit: the most.
        used: what the last page was held to; less than `size` where there was no room for more.
        seconds: what it took.
        target_ms: what it should have taken; 0: anything.
    """
    if not target_ms:
        return limit
    share = 1000 * seconds / target_ms
    if share > 1:
        return max(1, min(limit, int(used * max(_LEAST_SHARE, 1 / share))))
    if share < _ROOMY_SHARE and used >= size:
        return min(limit, size + max(1, int(limit * _GROWTH_SHARE)))
    return min(limit, size)
