"""What there is to see of a run beside the ledger: what the host makes of its jobs, and where its messages are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TypeVar

from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.database import begin_read_only, connect
from backfill_tasks.engine.indicators import Reading
from backfill_tasks.engine.model import Lane, PageMessage, Run
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.errors import BackfillError
from cli.poll import Poll
from cli.rate import rate_that_holds
from cli.session import Session

T = TypeVar("T")

#: How often the host and the workers are asked, in seconds, and how long an answer is good for.
_HOST_SECONDS, _WORKERS_SECONDS, _LASTS_SECONDS = 5.0, 3.0, 300.0

#: How much of the time the database may be asked about the host's jobs: the more there are, the longer it takes.
#: Less than the hundredth by which the latency of others is judged.
_SHARE = 0.005

#: A lane that has moved within so many seconds is not asked after.
_MOVES_SECONDS = 2.0

#: Words for a place, by the task ids of the messages there.
Places = Mapping[str, str]


@dataclass(frozen=True)
class Aside:
    """What was seen beside the ledger.

    Attributes:
        outcome: what the host has made of the run's jobs; None: it has none, or they can't be counted just now.
        holdups: why a lane does not move where the ledger does not say it, in words, by its number.
        small: why pages are smaller than the run would have them, in words; None: they are not.
    """

    outcome: Outcome | None = None
    holdups: Mapping[int, str] = field(default_factory=dict)
    small: str | None = None


def look(session: Session, run: Run) -> Aside:
    """Look once. What can't be asked is left out: the ledger has the run."""
    try:
        outcome = _outcome(session, session.parts.engine, run)
    except (DBAPIError, BackfillError):
        outcome = None
    try:
        places = _places(session) if any(_stands(run, lane) for lane in run.lanes) else {}
    except (RedisError, BackfillError):
        places = {}
    try:
        limited = _limited(session, session.parts.engine) if run.state == "running" else None
    except DBAPIError:
        limited = None
    return Aside(outcome, _holdups(run, places), _small(session, run, limited))


class Asides:
    """Looks again and again while a run is followed; nobody waits for it."""

    def __init__(self, session: Session, run: Run) -> None:
        # Of its own: a connection that is lost to one who looks would else be taken from all others before they know.
        engine = connect(session.parts.address)
        self._outcome = Poll(
            "jobs", lambda: _outcome(session, engine, run), every=_HOST_SECONDS, share=_SHARE, lasts=_LASTS_SECONDS
        )
        self._places = Poll("messages", lambda: _places(session), every=_WORKERS_SECONDS, lasts=_LASTS_SECONDS)
        self._limited = Poll(
            "page size", lambda: _limited(session, engine), every=_HOST_SECONDS, share=_SHARE, lasts=_LASTS_SECONDS
        )
        self._session = session

    def read(self, run: Run) -> Aside:
        """What was seen last."""
        limited = _last(self._limited, None)
        return Aside(
            _last(self._outcome, None), _holdups(run, _last(self._places, {})), _small(self._session, run, limited)
        )


def _last(poll: Poll[T], otherwise: T) -> T:
    try:
        return poll.read()
    except TimeoutError:
        return otherwise


def _outcome(session: Session, engine: Engine, run: Run) -> Outcome | None:
    backfill = session.parts.backfills[run.parameters.backfill]
    with engine.begin() as connection:
        begin_read_only(connection, statement_ms=session.settings.statement_timeout_ms)
        return backfill.outcome(connection, run.parameters.options, run.started_at)


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


def _places(session: Session) -> Places:
    from backfill_tasks.fleet import (  # noqa: PLC0415  Celery takes half a second to import
        waiting_for_the_rate,
        waiting_in_the_queue,
    )

    rate = f"waits for the rate of all workers together, {rate_that_holds(session)}"
    return {
        **dict.fromkeys(waiting_in_the_queue(), "waits in the queue: no worker process is free for it"),
        **{task: rate for tasks in waiting_for_the_rate().values() for task in tasks},
    }


def _holdups(run: Run, places: Places) -> dict[int, str]:
    """The lanes whose awaited message lies somewhere and not at work."""
    awaited = {
        lane.number: PageMessage(run.id, lane.number, lane.page + 1, lane.generation).task_id
        for lane in run.lanes
        if _stands(run, lane)
    }
    return {number: places[task] for number, task in awaited.items() if task in places}


def _stands(run: Run, lane: Lane) -> bool:
    still = (run.seen_at - lane.moved_at).total_seconds()
    return run.state == lane.state == "running" and lane.reason is None and still > _MOVES_SECONDS
