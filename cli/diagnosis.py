"""What there is to see of a run beside the ledger: what the host makes of its jobs, and why its lanes don't move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.diagnosis import Diagnoser, Key, Reason, explained, needs_reason
from backfill_tasks.engine.admission.indicators import Reading
from backfill_tasks.engine.database import begin_read_only, connect
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.errors import BackfillError
from backfill_tasks.monitoring.poll import Poll
from cli.context import Session

T = TypeVar("T")

#: How often the host is asked, in seconds, and how long an answer is good for.
_HOST_SECONDS, _LASTS_SECONDS = 5.0, 300.0

#: How often lanes that don't move are diagnosed, in seconds.
_DIAGNOSIS_SECONDS = 2.0

#: How much of the time the database may be asked about the host's jobs: the more there are, the longer it takes.
#: Less than the hundredth by which the latency of others is judged.
_SHARE = 0.005


@dataclass(frozen=True)
class Observed:
    """What was seen beside the ledger.

    Attributes:
        outcome: what the host has made of the run's jobs; None: it has none, or they can't be counted just now.
        small: why pages are smaller than the run would have them, in words; None: they are not.
    """

    outcome: Outcome | None = None
    small: str | None = None


def observe(session: Session, run: Run) -> Observed:
    """Look once. What can't be asked is left out: the ledger has the run."""
    try:
        outcome = _outcome(session, session.parts.engine, run)
    except (DBAPIError, BackfillError):
        outcome = None
    try:
        limited = _limited(session, session.parts.engine) if run.state == "running" else None
    except DBAPIError:
        limited = None
    return Observed(outcome, _small(session, run, limited))


def diagnosed(session: Session, runs: Sequence[Run]) -> list[Run]:
    """Return the runs with a reason in each of their lanes that doesn't move, as of now.

    A lane that has moved while the sources were asked needs none any more, and gets none.
    """
    if not any(needs_reason(run, lane) for run in runs for lane in run.lanes):
        return list(runs)
    reasons = Diagnoser(session.settings, session.parts.address).diagnose(runs)
    return [explained(session.parts.runs.read(run.id) if run.mode == "apply" else run, run, reasons) for run in runs]


@dataclass(frozen=True)
class _Diagnosis:
    """A run as it was seen, and the reasons of its lanes then."""

    seen: Run
    reasons: Mapping[Key, Reason]


class Observer:
    """Looks again and again while a run is followed; nobody waits for it."""

    def __init__(self, session: Session, run: Run) -> None:
        # Of its own: a connection that is lost to one who looks would else be taken from all others before they know.
        engine = connect(session.parts.address)
        self._outcome = Poll(
            "jobs", lambda: _outcome(session, engine, run), every=_HOST_SECONDS, share=_SHARE, lasts=_LASTS_SECONDS
        )
        self._seen = run
        diagnoser = Diagnoser(session.settings, session.parts.address)
        self._diagnosis = Poll(
            "diagnosis", lambda: _diagnose(diagnoser, self._seen), every=_DIAGNOSIS_SECONDS, lasts=_LASTS_SECONDS
        )
        self._limited = Poll(
            "page size", lambda: _limited(session, engine), every=_HOST_SECONDS, share=_SHARE, lasts=_LASTS_SECONDS
        )
        self._session = session

    def read(self, run: Run) -> Observed:
        """What was seen last."""
        limited = _last(self._limited, None)
        return Observed(_last(self._outcome, None), _small(self._session, run, limited))

    def diagnosed(self, run: Run) -> Run:
        """Return the run with the reasons that were found last in its lanes."""
        self._seen = run
        found = _last(self._diagnosis, None)
        return run if found is None else explained(run, found.seen, found.reasons)


def _diagnose(diagnoser: Diagnoser, run: Run) -> _Diagnosis | None:
    return _Diagnosis(run, diagnoser.diagnose([run]))


def _last(poll: Poll[T], otherwise: T) -> T:
    try:
        return poll.read()
    except TimeoutError:
        return otherwise


def _outcome(session: Session, engine: Engine, run: Run) -> Outcome | None:
    backfill = session.parts.backfills[run.parameters.backfill]
    with engine.begin() as connection:
        begin_read_only(connection, statement_ms=session.settings.statement_timeout_ms)
        return backfill.outcome(connection, run)


def _limited(session: Session, engine: Engine) -> Reading | None:
    """What keeps pages small just now; None: nothing does."""
    with engine.begin() as connection:
        begin_read_only(connection, statement_ms=session.settings.statement_timeout_ms)
        return session.parts.pressure.ask(connection).small


def _small(session: Session, run: Run, limited: Reading | None) -> str | None:
    """Why, if the run would have larger pages: neither its limit nor its room in the host's queue keeps them so."""
    if limited is None or limited.limit is None or run.state != "running":
        return None
    room = run.parameters.pace.max_pending if session.parts.backfills[run.parameters.backfill].jobs else None
    return limited.reason if limited.limit < min(run.parameters.limit, room or inf) else None
