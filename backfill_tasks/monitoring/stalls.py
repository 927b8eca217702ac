"""The lanes that don't move, with the kind of their reason, for the exporter."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from backfill_tasks.diagnosis import Diagnoser, needs_reason
from backfill_tasks.engine import ledger, schema
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.model import Lane, Run, RunId
from backfill_tasks.engine.states import UNFINISHED
from backfill_tasks.monitoring.queries import watched_runs
from backfill_tasks.settings import Settings
from backfill_tasks.wiring import Parts

#: The statement timeout for reading the runs, in milliseconds.
_STATEMENT_MS = 500

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

    settings: Settings
    parts: Parts
    _seen: Sequence[Run] = field(default_factory=list)
    _seen_at: float = 0.0

    def ask(self) -> list[Stall]:
        """Return the lanes of unfinished runs that don't move. Takes seconds if a component is broken."""
        try:
            self._seen, self._seen_at = self._unfinished(), time.monotonic()
        except DBAPIError:
            return self._without_a_ledger()
        if not any(needs_reason(run, lane) for run in self._seen for lane in run.lanes):
            return []
        reasons = Diagnoser(self.settings, self.parts.address).diagnose(self._seen)
        lanes = [(run, lane, reasons.get((run.id, lane.number))) for run in self._seen for lane in run.lanes]
        return [_stall(run, lane, reason.kind) for run, lane, reason in lanes if reason is not None]

    def _unfinished(self) -> list[Run]:
        with self.parts.engine.begin() as connection:
            begin_read_only(connection, statement_ms=_STATEMENT_MS)
            if not schema.version(connection):  # no run has been started yet
                return []
            schema.require(connection)
            ids = [run.id for run in watched_runs(connection) if run.state in UNFINISHED]
            return [run for run in (ledger.read_run(connection, each) for each in ids) if run is not None]

    def _without_a_ledger(self) -> list[Stall]:
        since = time.monotonic() - self._seen_at
        running = [(run, lane) for run in self._seen if run.state == "running" for lane in run.lanes]
        return [_stall(run, lane, _NO_LEDGER, since) for run, lane in running if lane.state == "running"]


def _stall(run: Run, lane: Lane, kind: str, since: float = 0.0) -> Stall:
    return Stall(run.id, run.parameters.backfill, lane.number, run.still_seconds(lane) + since, kind)
