"""A run at one moment: its state in the ledger, why its lanes don't move, and what the host does with its jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.diagnosis import Diagnoser, Key, Reason, explained, needs_reason
from backfill_tasks.engine import ledger
from backfill_tasks.engine.admission import sizing
from backfill_tasks.engine.admission.bound import Bound
from backfill_tasks.engine.admission.indicators import Reading
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.database import begin_read_only, connect
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.errors import BackfillError
from backfill_tasks.poll import Poll
from backfill_tasks.settings import Settings
from backfill_tasks.wiring import Parts

T = TypeVar("T")

#: How often the host's queue is queried, in seconds, and how long an answer is valid.
_HOST_SECONDS, _LASTS_SECONDS = 5.0, 300.0

#: How often lanes that don't move are diagnosed, in seconds.
_DIAGNOSIS_SECONDS = 2.0

#: The share of time that queries about the host's jobs may take, because they get slower the more jobs there are. Below
#: 0.01, so that they don't affect the 99th percentile of other queries' latency.
_SHARE = 0.005


def listed(run: Run, backfill: Backfill | None) -> dict[str, Any]:
    """Return a run as `runs --json` lists it: its state in the ledger, and the reasons of its lanes.

    If its backfill is missing because the package is gone, the classes are those that the run has counted so far.
    """
    shown = ("read", *backfill.classes, "quarantined") if backfill else tuple(run.counts)
    if backfill and run.mode == "dry-run":
        shown = (*shown, *backfill.passed_over)
    content = run.as_json(shown, backfill.jobs if backfill else ())
    content["leads_per_second"] = content.pop("items_per_second")  # the name that scripts expect
    return content


@dataclass(frozen=True)
class BoundInForce:
    """The bound of a run that is sized to the host's drain, and why it is what it is, in words."""

    bound: Bound
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return the bound as `status --json` prints it (docs/reference/json.md)."""
        return {
            "jobs": self.bound.offer,
            "per_call": round(self.bound.capacity),
            "live_per_call": round(self.bound.live_per_call, 1),
            "call_seconds": round(self.bound.rhythm.seconds, 3),
            "starved_seconds": round(self.bound.starved_seconds),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        run: the run in the ledger; each lane that doesn't move carries its reason.
        backfill: the run's backfill.
        host: what the host has done with the run's jobs; None: the backfill has no jobs, or they can't be counted just
            now.
        small_pages: why pages are smaller than the run's options allow, in words; None: they aren't.
        bound: the bound on jobs in the host's queue, if it is sized to the host's drain.
    """

    run: Run
    backfill: Backfill
    host: Outcome | None = None
    small_pages: str | None = None
    bound: BoundInForce | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the run as `run --json` and `status --json` print it (docs/reference/json.md)."""
        return {
            **listed(self.run, self.backfill),
            "host": self.host and self.host.as_json(self.run.jobs_to_come(self.backfill.jobs)),
            "small_pages": self.small_pages,
            "bound": self.bound.as_json() if self.bound else None,
        }


@dataclass(frozen=True)
class Observer:
    """Takes snapshots of runs. A source that can't be queried is left out; the run itself comes from the ledger."""

    settings: Settings
    parts: Parts

    def snapshot(self, run: Run) -> Snapshot:
        """Take one snapshot, querying every source that could explain why the run doesn't move."""
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
        return Snapshot(diagnosed, backfill, host, _why_small(run, backfill, small), bound)

    def diagnosed(self, runs: Sequence[Run]) -> list[Run]:
        """Return the runs with a reason in each lane that doesn't move right now.

        A lane that moved while the sources were queried needs no reason, and gets none.
        """
        if not any(needs_reason(run, lane) for run in runs for lane in run.lanes):
            return list(runs)
        reasons = Diagnoser(self.settings, self.parts.address).diagnose(runs)
        return [explained(self.parts.runs.read(run.id) if run.mode == "apply" else run, run, reasons) for run in runs]

    def outcome(self, engine: Engine, run: Run) -> Outcome | None:
        """Return what the host has done with a run's jobs."""
        backfill = self.parts.backfills[run.parameters.backfill]
        with engine.begin() as connection:
            begin_read_only(connection, statement_ms=self.settings.statement_timeout_ms)
            return backfill.outcome(connection, run)

    def small(self, engine: Engine) -> Reading | None:
        """Return the reading that keeps pages small just now, or None."""
        with engine.begin() as connection:
            begin_read_only(connection, statement_ms=self.settings.statement_timeout_ms)
            return self.parts.pressure.ask(connection).small

    def bound(self, engine: Engine, run: Run) -> BoundInForce | None:
        """Return the bound in force; None if it is a constant, the run isn't running, or no page has asked yet."""
        pace, backfill = run.parameters.pace, self.parts.backfills[run.parameters.backfill]
        if run.state != "running" or pace.max_pending != "auto" or backfill.queue is None:
            return None
        with engine.begin() as connection:
            begin_read_only(connection, statement_ms=self.settings.statement_timeout_ms)
            now, found = ledger.read_bound(connection, backfill.name)
        if found is None:
            return None
        return BoundInForce(found, sizing.summary(found, now, min_share=pace.min_share / 100))


@dataclass(frozen=True)
class _Diagnosis:
    """A run as it was seen, and the reasons for its lanes at that time."""

    seen: Run
    reasons: Mapping[Key, Reason]


class Following:
    """Takes repeated snapshots of one run without waiting: each source is queried in a thread of its own."""

    def __init__(self, observer: Observer, run: Run) -> None:
        settings, parts = observer.settings, observer.parts
        # Its own connections: losing one invalidates its whole pool, which would cut off every other user of a shared
        # engine.
        engine = connect(parts.address)
        self._backfill = parts.backfills[run.parameters.backfill]
        self._seen = run
        diagnoser = Diagnoser(settings, parts.address)
        self._host = Poll(
            "jobs", lambda: observer.outcome(engine, run), every=_HOST_SECONDS, share=_SHARE, lasts=_LASTS_SECONDS
        )
        self._small = Poll(
            "page size", lambda: observer.small(engine), every=_HOST_SECONDS, share=_SHARE, lasts=_LASTS_SECONDS
        )
        self._bound = Poll(
            "bound", lambda: observer.bound(engine, self._seen), every=_HOST_SECONDS, lasts=_LASTS_SECONDS
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
        small = _why_small(run, self._backfill, _last(self._small, None))
        if found is not None:
            run = explained(run, found.seen, found.reasons)
        bound = _last(self._bound, None) if run.state == "running" else None
        return Snapshot(run, self._backfill, _last(self._host, None), small, bound)


def _last(poll: Poll[T], otherwise: T) -> T:
    try:
        return poll.read()
    except TimeoutError:
        return otherwise


def _why_small(run: Run, backfill: Backfill, limited: Reading | None) -> str | None:
    """Return why pages are small, unless the run's limit or its room in the host's queue already makes them so."""
    if limited is None or limited.limit is None or run.state != "running":
        return None
    room = run.parameters.pace.max_pending if backfill.jobs else None
    most = room if isinstance(room, int) else inf
    return limited.reason if limited.limit < min(run.parameters.limit, most) else None
