"""When a scoring session that is followed is shown again: not as long as nothing has changed."""

import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backfill_tasks.scoring.sessions import Session

#: Seconds between two summaries of a session that moves, and of one that waits; a new reason to wait comes sooner.
_MOVING_SECONDS, _WAITING_SECONDS, _NEW_REASON_SECONDS = 10.0, 60.0, 2.0

_NO_WORKER = "no worker"


class DueSummaries:
    """Says whether a session's summary is due: every 10 s while something moves, once a minute while it waits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start at the time of `clock`, which counts in seconds."""
        self._clock = clock
        self._shown_at = clock()
        self._moved: Hashable = None
        self._held = frozenset({_NO_WORKER})  # which its start has said, and which lasts until one takes a batch

    def __call__(self, seen: "Session") -> bool:
        """Return whether to show the session now, and remember that it was shown."""
        moved, held = _moved(seen), _held(seen)
        seconds = _MOVING_SECONDS if moved != self._moved else _WAITING_SECONDS
        if held - self._held:
            seconds = _NEW_REASON_SECONDS
        if self._clock() - self._shown_at < seconds:
            return False
        self._shown_at, self._moved, self._held = self._clock(), moved, held
        return True


def _moved(seen: "Session") -> Hashable:
    """Return the counts that change when a session gets on."""
    return seen.written, seen.requests, seen.at_provider.batches, seen.at_provider.requests


def _held(seen: "Session") -> frozenset[str]:
    """Return the kinds of reasons that the session waits for; the details after a colon may change all the time."""
    kinds = frozenset(reason.partition(":")[0] for reason in seen.reasons)
    return kinds if seen.alive else kinds | {_NO_WORKER}
