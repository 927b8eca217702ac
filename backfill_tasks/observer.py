"""The observer: the single source of why a run waits, for commands, the API and metrics."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks import diagnosis
from backfill_tasks.diagnosis import explained, needs_reason
from backfill_tasks.engine import ledger, schema
from backfill_tasks.engine.admission import sizing
from backfill_tasks.engine.admission.bound import Bound
from backfill_tasks.engine.admission.indicators import Indicator, PageDuration, Reading
from backfill_tasks.engine.database import begin_read_only, connect, statement
from backfill_tasks.engine.distribution import Distribution
from backfill_tasks.engine.ledger import TimedPage, Watched
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.engine.states import UNFINISHED
from backfill_tasks.errors import BackfillError, LedgerError
from backfill_tasks.forecast.answer import Forecast, WhatIf
from backfill_tasks.options import Pace
from backfill_tasks.poll import Poll
from backfill_tasks.settings import Settings
from backfill_tasks.snapshot import BoundInForce, Snapshot, why_small
from backfill_tasks.wiring import Parts

if TYPE_CHECKING:
    from backfill_tasks.drain.overview import Overview
    from backfill_tasks.forecast.situation import Situation
    from backfill_tasks.scoring.overview import Overview as Scoring

T = TypeVar("T")

#: How often the host's queue is queried, in seconds, and how long an answer is valid.
_HOST_SECONDS, _LASTS_SECONDS = 5.0, 300.0

#: How often lanes that don't move are diagnosed, in seconds.
_DIAGNOSIS_SECONDS = 2.0

#: The share of time that queries about the host's jobs may take, because they get slower the more jobs there are. Below
#: 0.01, so that they don't affect the 99th percentile of other queries' latency.
_SHARE = 0.005


@dataclass(frozen=True)
class Observer:
    """Reads runs, the reasons why lanes don't move, and the host's state. Changes nothing.

    No statement takes longer than `statement_ms` milliseconds.
    """

    settings: Settings
    parts: Parts
    statement_ms: int

    # ---- runs

    def snapshot(self, run: Run, alternatives: Sequence[Mapping[str, Any]] = ()) -> Snapshot:
        """Take one snapshot. A source that can't be queried is left out; the run itself comes from the ledger.

        `alternatives`: changes of options to forecast; without any, those that suggest themselves are.
        """
        backfill = self.parts.backfills[run.parameters.backfill]
        (diagnosed,) = self.diagnosed([run])
        if run.mode != "apply":
            return Snapshot(diagnosed, backfill)
        try:
            host = self.outcome(self.parts.engine, run)
        except (DBAPIError, BackfillError):
            host = None
        try:
            small = self.small(self.parts.engine) if run.state == "running" else None
        except DBAPIError:
            small = None
        try:
            bound = self.bound(self.parts.engine, run)
        except DBAPIError:
            bound = None
        try:
            found = self.situation(self.parts.engine, run, host)
        except (DBAPIError, BackfillError):
            found = None
        now, what_ifs = (None, ()) if found is None else _forecasts(found, alternatives)
        return Snapshot(diagnosed, backfill, host, why_small(run, backfill, small), bound, now, what_ifs)

    def diagnosed(self, runs: Sequence[Run]) -> list[Run]:
        """Return the runs with a reason in each lane that doesn't move right now.

        A lane that moved while the sources were queried needs no reason, and gets none. Takes seconds if a component is
        broken.
        """
        if not any(needs_reason(run, lane) for run in runs for lane in run.lanes):
            return list(runs)
        reasons = diagnosis.Diagnoser(self.settings, self.parts.address).diagnose(runs)
        with self._reading(self.parts.engine) as connection:
            now = [(ledger.read_run(connection, run.id) if run.mode == "apply" else None) or run for run in runs]
        return [explained(run, seen, reasons) for run, seen in zip(now, runs, strict=True)]

    def unfinished(self) -> list[Run]:
        """Return the newest unfinished runs; none before the first run.

        Raises:
            LedgerError: the ledger has another version, or is closed to this role.
        """
        with self._reading(self.parts.engine) as connection:
            ids = [run.id for run in _watched(connection).runs if run.state in UNFINISHED]
            return [run for run in (ledger.read_run(connection, each) for each in ids) if run is not None]

    def worth_watching(self) -> list[Run]:
        """Return the runs of `watched` in full, in order of their starts."""
        with self._reading(self.parts.engine) as connection:
            found = (ledger.read_run(connection, each.id) for each in _watched(connection).runs)
            return [run for run in found if run is not None]

    def watched(self) -> Watched:
        """Return the counts and states of the runs worth watching; none before the first run.

        Raises:
            LedgerError: see `unfinished`.
        """
        with self._reading(self.parts.engine) as connection:
            return _watched(connection)

    def pages_after(self, passed: Mapping["diagnosis.Key", int]) -> list[TimedPage]:
        """Return the pages of these lanes after these numbers, by lane: at most 1,000 of each."""
        with self._reading(self.parts.engine) as connection:
            return ledger.pages_after(connection, passed)

    # ---- the host

    def outcome(self, engine: Engine, run: Run) -> Outcome | None:
        """Return what the host has done with a run's jobs."""
        backfill = self.parts.backfills[run.parameters.backfill]
        with self._reading(engine) as connection:
            return backfill.outcome(connection, run)

    def results_over_time(self, run: Run, *, buckets: int) -> Sequence[int]:
        """Return how many enqueued items got their result in each of `buckets` stretches from the start until now.

        Empty if there are none, or if they can't be read.
        """
        backfill = self.parts.backfills[run.parameters.backfill]
        try:
            with self._reading(self.parts.engine) as connection:
                found = backfill.results_over_time(connection, run, until=run.seen_at, buckets=buckets)
        except (DBAPIError, BackfillError):
            return ()
        return found if any(found) else ()

    def distribution(self, run: Run) -> Distribution | None:
        """Return how many of a run's items have which result; None if its backfill has no such results."""
        backfill = self.parts.backfills[run.parameters.backfill]
        with self._reading(self.parts.engine) as connection:
            return backfill.distribution(connection, run)

    def small(self, engine: Engine) -> Reading | None:
        """Return the reading that keeps pages small just now, or None."""
        with self._reading(engine) as connection:
            return self.parts.pressure.ask(connection).small

    def bound(self, engine: Engine, run: Run) -> BoundInForce | None:
        """Return the bound in force; None if it is a constant or doesn't apply, or before a page has asked for it."""
        pace, backfill = run.parameters.pace, self.parts.backfills[run.parameters.backfill]
        applies = pace.max_pending == "auto" and backfill.fills_queue(backfill.with_defaults(run.parameters.options))
        if run.state != "running" or not applies or backfill.queue is None:
            return None
        with self._reading(engine) as connection:
            now, found = ledger.read_bound(connection, backfill.name)
        if found is None:
            return None
        return BoundInForce(found, sizing.summary(found, now, min_share=pace.min_share / 100))

    def situation(self, engine: Engine, run: Run, found: Outcome | None) -> "Situation | None":
        """Return what a forecast of a run needs to know; None: the run has no jobs, or they can't be counted."""
        if found is None or not found.known:
            return None
        from backfill_tasks.forecast.reading import Reader

        with self._reading(engine) as connection:
            if schema.version(connection) != schema.latest():
                return None
            return Reader(connection, self.parts.backfills[run.parameters.backfill]).situation(run, found)

    def forecast(self, engine: Engine, run: Run, found: Outcome | None) -> Forecast | None:
        """Return when the last item of a run has its result, given the outcome of its jobs so far; None: see above."""
        from backfill_tasks.forecast.road import forecast

        situation = self.situation(engine, run, found)
        return None if situation is None else forecast(situation)

    def bounds(self) -> dict[str, Bound]:
        """Return what is known of the host's drain, by backfill; nothing before a page has asked."""
        with self._reading(self.parts.engine) as connection:
            if not _has_ledger(connection) or schema.version(connection) != schema.latest():
                return {}
            known = {each.name: ledger.read_bound(connection, each.name)[1] for each in self.parts.backfills.usable()}
        return {name: bound for name, bound in known.items() if bound is not None}

    def pressure(self) -> list[tuple[Indicator, Reading]]:
        """Measure every indicator, whether pages use it or not, including those of every backfill's queue."""
        pace = Pace(max_live_wait=self.settings.defaults["max_live_wait"])
        own = [each for backfill in self.parts.backfills.usable() for each in backfill.indicators(pace)]
        with self._reading(self.parts.engine) as connection:
            known = _has_ledger(connection)
            general = [each for each in self.parts.pressure.indicators if known or not isinstance(each, PageDuration)]
            indicators = [*own, *general]
            return list(zip(indicators, self.parts.pressure.readings(connection, indicators), strict=True))

    def jobs_ahead(self, most: int) -> dict[str, int]:
        """Return how many jobs in the host's queue are ahead of one added now, counted up to `most`, by backfill."""
        with self._reading(self.parts.engine) as connection:
            return {each.name: each.pending(connection, most) for each in self.parts.backfills.usable() if each.jobs}

    def drain(self) -> "Overview":
        """Return the drain: its state, its totals and its latest events. Before the first run there is none.

        Raises:
            LedgerError: see `unfinished`.
        """
        from backfill_tasks.drain.overview import Overview, overview

        with self._reading(self.parts.engine) as connection:
            if not schema.version(connection):
                return Overview(None)
            schema.require(connection)
            return overview(connection, call_seconds=self.settings.cron_call_seconds)

    def scoring(self) -> "Scoring | None":
        """Return scoring here, and the jobs that wait for it; None without a ledger of this version."""
        from backfill_tasks.scoring import overview as scoring

        with self._reading(self.parts.engine) as connection:
            if not _has_ledger(connection) or schema.version(connection) != schema.latest():
                return None
            return scoring.overview(connection, self.parts.address.schema)

    @contextmanager
    def _reading(self, engine: Engine) -> Iterator[Connection]:
        with engine.begin() as connection:
            begin_read_only(connection, statement_ms=self.statement_ms)
            yield connection


def _forecasts(situation: "Situation", alternatives: Sequence[Mapping[str, Any]]) -> tuple[Forecast, Sequence[WhatIf]]:
    from backfill_tasks.forecast.road import forecast
    from backfill_tasks.forecast.what_if import suggestions, what_if

    now = forecast(situation)
    return now, [what_if(situation, each) for each in alternatives] or suggestions(situation, now)


def _watched(connection: Connection) -> Watched:
    seen_at = connection.execute(statement("SELECT now()")).scalar_one()
    if not schema.version(connection):  # no run has been started yet
        return Watched(seen_at)
    schema.require(connection)
    return Watched(seen_at, ledger.watched_runs(connection))


def _has_ledger(connection: Connection) -> bool:
    """Return whether there is a ledger that this role may read: without it, no page's duration is known."""
    try:
        return bool(schema.version(connection))
    except LedgerError:
        return False


@dataclass(frozen=True)
class _Diagnosis:
    """A run as it was seen, and the reasons for its lanes at that time."""

    seen: Run
    reasons: Mapping["diagnosis.Key", "diagnosis.Reason"]


class Following:
    """Takes repeated snapshots of one run without waiting: each source is queried in a thread of its own."""

    def __init__(self, observer: Observer, run: Run) -> None:
        settings, parts = observer.settings, observer.parts
        # Its own connections: losing one invalidates its whole pool, which would cut off every other user of a shared
        # engine.
        engine = connect(parts.address)
        self._backfill = parts.backfills[run.parameters.backfill]
        self._seen = run
        diagnoser = diagnosis.Diagnoser(settings, parts.address)
        # An old count is shown with its age: it says when it was made.
        self._host = Poll("jobs", lambda: observer.outcome(engine, run), every=_HOST_SECONDS, share=_SHARE, lasts=inf)
        self._small = Poll(
            "page size", lambda: observer.small(engine), every=_HOST_SECONDS, share=_SHARE, lasts=_LASTS_SECONDS
        )
        self._bound = Poll(
            "bound", lambda: observer.bound(engine, self._seen), every=_HOST_SECONDS, lasts=_LASTS_SECONDS
        )
        self._forecast = Poll(
            "forecast",
            lambda: observer.forecast(engine, self._seen, _last(self._host, None)),
            every=_HOST_SECONDS,
            share=_SHARE,
            lasts=_LASTS_SECONDS,
        )
        self._diagnosis: Poll[_Diagnosis | None] = Poll(
            "diagnosis",
            lambda: _Diagnosis(self._seen, diagnoser.diagnose([self._seen])),
            every=_DIAGNOSIS_SECONDS,
            lasts=_LASTS_SECONDS,
        )

    def snapshot(self, run: Run) -> Snapshot:
        """Return the run with the last answers of its sources."""
        self._seen = run
        found = _last(self._diagnosis, None)
        small = why_small(run, self._backfill, _last(self._small, None))
        if found is not None:
            run = explained(run, found.seen, found.reasons)
        bound = _last(self._bound, None) if run.state == "running" else None
        return Snapshot(run, self._backfill, _last(self._host, None), small, bound, _last(self._forecast, None))


def _last(poll: Poll[T], otherwise: T) -> T:
    try:
        return poll.read()
    except TimeoutError:
        return otherwise
