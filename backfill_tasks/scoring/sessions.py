"""Scoring sessions in the ledger: parameters, slots, counts. Each function is one step of a transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError

from backfill_tasks.engine.database import statement
from backfill_tasks.engine.encoding import as_json
from backfill_tasks.engine.ledger import who
from backfill_tasks.errors import UsageError
from backfill_tasks.scoring.jobs import HOLDER_PREFIX
from backfill_tasks.scoring.message import ScoreMessage
from backfill_tasks.scoring.parameters import Parameters
from backfill_tasks.scoring.statements import file
from backfill_tasks.scoring.states import Actor, SessionState, sources
from backfill_tasks.scoring.written import Written

#: How often a batch shows a sign of life, and after how long without one a slot has lost its chain, in seconds.
BEAT_SECONDS = 5.0
STALE_SECONDS = 15.0


@dataclass(frozen=True)
class Begun:
    """A batch that has begun.

    `failing`: how many batches in a row before it got no answer at all. `state`: the session's; a slot whose session
    has ended goes on until it has nothing more at a provider.
    """

    scorer: str
    state: SessionState
    batch: int
    concurrency: int
    until_done: bool
    max_spend: int | None
    failing: int


@dataclass(frozen=True)
class AtProvider:
    """What a session has at a provider that answers hours later.

    Attributes:
        batches, requests: how many; `cancelled` of the batches are being cancelled.
        seconds: since the oldest was submitted.
        ambiguous: how many requests of the whole session may have been paid for without a result.
    """

    batches: int = 0
    requests: int = 0
    cancelled: int = 0
    seconds: float = 0.0
    ambiguous: int = 0


@dataclass(frozen=True)
class Session:
    """A session as the ledger has it. Money is in millionths.

    Attributes:
        alive: how many of the `slots` have shown life lately.
        written: what became of its jobs.
        reasons: why slots wait.
        spent: what settled requests cost; `unknown_spent` of it is an upper bound.
        at_provider: what a provider has that answers hours later.
        reserved: for requests in flight, and `unknown_reserved` of it for requests of workers that are gone.
        seen_at: when this was read, by the database's clock.
    """

    id: str
    scorer: str
    state: SessionState
    reason: str | None
    parameters: Mapping[str, Any]
    started_at: datetime
    finished_at: datetime | None
    seen_at: datetime
    slots: int
    alive: int
    batches: int
    written: Written
    reasons: Sequence[str]
    max_spend: int | None
    spent: int
    unknown_spent: int
    reserved: int
    unknown_reserved: int
    requests: int
    input_tokens: int
    output_tokens: int
    at_provider: AtProvider

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        return ((self.finished_at or self.seen_at) - self.started_at).total_seconds()


def create(connection: Connection, session: str, parameters: Parameters) -> list[ScoreMessage]:
    """Write a new session and its slots, and return the first message of each.

    Raises:
        UsageError: another session is running.
    """
    try:
        connection.execute(
            statement(
                "INSERT INTO backfill.scoring (id, scorer, state, parameters, max_spend, started_by)"
                " VALUES (:id, :scorer, 'running', CAST(:parameters AS jsonb), :max_spend, :who)"
            ),
            {
                "id": session,
                "scorer": parameters.scorer,
                "parameters": as_json(asdict(parameters)),
                "max_spend": parameters.max_spend,
                "who": who(),
            },
        )
    except IntegrityError:
        raise UsageError(
            "scoring is running already: `backfill work --status` shows it, `backfill work --stop` ends it"
        ) from None
    slots = range(1, parameters.parallel + 1)
    connection.execute(
        statement("INSERT INTO backfill.scoring_slot (session_id, number) VALUES (:session, :number)"),
        [{"session": session, "number": number} for number in slots],
    )
    return [ScoreMessage(session, number, 1, 1) for number in slots]


def begin(connection: Connection, message: ScoreMessage) -> Begun | None:
    """Begin a slot's next batch; None if the message is a duplicate or of an older chain, or the slot has ended."""
    row = connection.execute(file("begin"), _place(message)).one_or_none()
    if row is None:
        return None
    given = row.parameters
    return Begun(
        scorer=row.scorer,
        state=row.state,
        batch=given["batch"],
        concurrency=given["concurrency"],
        until_done=given["until_done"],
        max_spend=row.max_spend,
        failing=row.failing,
    )


def beat(connection: Connection, message: ScoreMessage) -> bool:
    """Record a sign of life of a slot, and return whether its session is still running."""
    query = (
        "UPDATE backfill.scoring_slot SET beat_at = now()"
        " WHERE session_id = :session AND number = :slot AND generation = :generation AND batch = :batch"
    )
    connection.execute(statement(query), _place(message))
    return state(connection, message.session) == "running"


def end(
    connection: Connection,
    message: ScoreMessage,
    written: Written,
    *,
    delay: float = 0.0,
    reason: str | None = None,
    failing: int = 0,
) -> None:
    """End a slot's batch: add its counts, and record why and how long the slot waits before the next one."""
    more = {"delay": delay, "reason": reason, "failing": failing}
    connection.execute(file("end"), {**_place(message), **asdict(written), **more})


def move(connection: Connection, session: str, new: SessionState, *, by: Actor, reason: str) -> bool:
    """Move a session to a state; return False if this actor may not do that from its current state."""
    query = (
        "UPDATE backfill.scoring SET state = :new, reason = :reason, finished_at = date_trunc('milliseconds', now())"
        " WHERE id = :session AND state = ANY (:from)"
    )
    values = {"session": session, "new": new, "reason": reason, "from": list(sources(new, by))}
    return connection.execute(statement(query), values).rowcount > 0


def cancel_submissions(connection: Connection, session: str) -> None:
    """Mark a session's requests at a provider as unwanted: their slots cancel them."""
    query = (
        "UPDATE backfill.batch SET unwanted = true"
        " WHERE session_id = :session AND state IN ('submitting', 'submitted') AND NOT unwanted"
    )
    connection.execute(statement(query), {"session": session})


def state(connection: Connection, session: str) -> SessionState | None:
    """Return a session's state; None if there is no such session."""
    query = statement("SELECT state FROM backfill.scoring WHERE id = :session")
    found: SessionState | None = connection.execute(query, {"session": session}).scalar_one_or_none()
    return found


def newest(connection: Connection) -> str | None:
    """Return the id of the newest session, a running one first; None if there is none."""
    query = "SELECT id FROM backfill.scoring ORDER BY state <> 'running', started_at DESC, id DESC LIMIT 1"
    found: str | None = connection.execute(statement(query)).scalar_one_or_none()
    return found


def read(connection: Connection, session: str) -> Session | None:
    """Return a session; None if there is none with this id."""
    values = {"session": session, "stale_seconds": STALE_SECONDS, "holder_prefix": HOLDER_PREFIX}
    row = connection.execute(file("session"), values).one_or_none()
    return None if row is None else _session(row)


def stalled(connection: Connection) -> list[ScoreMessage]:
    """Return, for each slot that seems to have lost its chain, the message of the last batch that it began."""
    rows = connection.execute(file("stalled"), {"stale_seconds": STALE_SECONDS})
    return [ScoreMessage(row.session_id, row.number, row.generation, row.batch) for row in rows]


def reseed(connection: Connection, last: ScoreMessage) -> ScoreMessage | None:
    """Give a slot a new chain, and return its first message; None if the slot has moved in the meantime."""
    query = (
        "UPDATE backfill.scoring_slot SET generation = generation + 1, beat_at = now(), reason = NULL"
        " WHERE session_id = :session AND number = :slot AND generation = :generation AND batch = :batch"
        " RETURNING generation, batch"
    )
    row = connection.execute(statement(query), _place(last)).one_or_none()
    return None if row is None else ScoreMessage(last.session, last.slot, row.generation, row.batch + 1)


def _place(message: ScoreMessage) -> dict[str, Any]:
    return asdict(message)


def _session(row: Row[Any]) -> Session:
    return Session(
        id=row.id,
        scorer=row.scorer,
        state=row.state,
        reason=row.reason,
        parameters=row.parameters,
        started_at=row.started_at,
        finished_at=row.finished_at,
        seen_at=row.seen_at,
        slots=row.slots,
        alive=row.alive,
        batches=row.batches,
        written=Written(row.scored, row.unchanged, row.retried, row.failed, row.given_back, row.lost),
        reasons=tuple(row.reasons),
        max_spend=row.max_spend,
        spent=row.spent,
        unknown_spent=row.unknown_spent,
        reserved=row.reserved,
        unknown_reserved=row.unknown_reserved,
        requests=row.requests,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        at_provider=AtProvider(
            row.open_batches, row.open_requests, row.cancelled_batches, row.open_seconds, row.ambiguous
        ),
    )
