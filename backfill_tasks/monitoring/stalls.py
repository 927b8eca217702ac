"""The lanes that don't move, with the kind of their reason, for the exporter."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.model import Lane, Run, RunId
from backfill_tasks.observer import Observer

#: The reason for every running lane while the ledger can't be read.
_NO_LEDGER = "database_unreachable"


@dataclass(frozen=True)
class Stall:
    """A lane that hasn't moved for some seconds, and the kind of reason for it."""

    run: RunId
    backfill: str
    lane: int
    seconds: float
    kind: str


@dataclass
class Stalls:
    """Finds lanes that don't move.

    While the ledger can't be read, that is the reason for every lane that was running when it was last read.
    """

    observer: Observer
    _seen: Sequence[Run] = field(default_factory=list)
    _seen_at: float = 0.0

    def ask(self) -> list[Stall]:
        """Return the lanes of unfinished runs that don't move. Takes seconds if a component is broken."""
        try:
            self._seen, self._seen_at = self.observer.unfinished(), time.monotonic()
            diagnosed = self.observer.diagnosed(self._seen)
        except DBAPIError:
            return self._without_a_ledger()
        lanes = [(run, lane, lane.reason_kind) for run in diagnosed for lane in run.lanes]
        return [_stall(run, lane, kind) for run, lane, kind in lanes if kind is not None]

    def _without_a_ledger(self) -> list[Stall]:
        since = time.monotonic() - self._seen_at
        running = [(run, lane) for run in self._seen if run.state == "running" for lane in run.lanes]
        return [_stall(run, lane, _NO_LEDGER, since) for run, lane in running if lane.state == "running"]


def _stall(run: Run, lane: Lane, kind: str, since: float = 0.0) -> Stall:
    return Stall(run.id, run.parameters.backfill, lane.number, run.still_seconds(lane) + since, kind)
