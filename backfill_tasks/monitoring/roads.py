"""How far the items of runs have come, for the exporter: counted seldom, because counting reads every job of a run."""

import time
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.model import Run, RunId
from backfill_tasks.engine.road import Road
from backfill_tasks.engine.states import ENDED
from backfill_tasks.errors import BackfillError
from backfill_tasks.forecast.answer import Forecast
from backfill_tasks.observer import Observer

#: The jobs of a run that has ended, and of which none waits, are counted again after this many seconds: a later run may
#: have taken them over.
_SETTLED_SECONDS = 3_600.0


@dataclass(frozen=True)
class RunRoad:
    """The road of one run."""

    run: RunId
    backfill: str
    road: Road
    forecast: Forecast | None = None


@dataclass
class Roads:
    """Counts the roads of the runs worth watching. A run whose jobs can't be counted has the ledger's part only."""

    observer: Observer
    _settled: dict[RunId, tuple[float, RunRoad]] = field(default_factory=dict)

    def ask(self) -> list[RunRoad]:
        """Return the roads. Takes seconds for a run with hundreds of thousands of jobs."""
        runs = self.observer.worth_watching()
        self._settled = {run.id: self._settled[run.id] for run in runs if run.id in self._settled}
        return [road for run in runs if (road := self._of(run)) is not None]

    def _of(self, run: Run) -> RunRoad | None:
        counted_at, settled = self._settled.get(run.id, (0.0, None))
        if settled is not None and run.state in ENDED and time.monotonic() - counted_at < _SETTLED_SECONDS:
            return settled
        try:
            backfill = self.observer.parts.backfills[run.parameters.backfill]
        except (KeyError, BackfillError):  # its package is gone, or broken
            return None
        engine = self.observer.parts.engine
        try:
            outcome = self.observer.outcome(engine, run)
            forecast = self.observer.forecast(engine, run, outcome)
        except (DBAPIError, BackfillError):
            outcome = forecast = None
        found = RunRoad(run.id, backfill.name, Road.of(backfill, run, outcome), forecast)
        if run.state in ENDED and found.road.outcome is not None and not found.road.outcome.unended:
            self._settled[run.id] = time.monotonic(), found
        return found
