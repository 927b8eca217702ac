"""A page's transaction: the fence, the turn, the page's row; and postponing a page or stopping its lane."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from backfill_tasks.engine import batch
from backfill_tasks.engine.database import statement
from backfill_tasks.engine.encoding import as_array, as_json
from backfill_tasks.engine.ledger.quarantine import keep
from backfill_tasks.engine.ledger.rows import lane_of, sql_file
from backfill_tasks.engine.ledger.transitions import lock_lanes, move_lanes, move_run
from backfill_tasks.engine.model import Lane, PageMessage, PageResult, Quarantined, RunId
from backfill_tasks.engine.states import RunState
from backfill_tasks.options import Parameters


@dataclass(frozen=True)
class Fence:
    """The result of a page's first statement: its lane and the relevant state of its run.

    The lane stays locked until the transaction ends.
    """

    run_state: RunState
    parameters: Parameters
    single_batch: bool
    batch_lane: int | None
    started_at: datetime
    lane: Lane


@dataclass(frozen=True)
class Tally:
    """The state of a run as seen by a page that has its turn.

    Attributes:
        state: the run's state.
        ordinal: the number of items numbered so far.
        due_at: the due time of the last spread item; None if none is spread.
        jobs: the number of jobs the run has enqueued.
    """

    state: RunState
    ordinal: int
    due_at: datetime | None
    jobs: int


def fence(connection: Connection, message: PageMessage, *, lock_ms: int, statement_ms: int) -> Fence | None:
    """Set the transaction's time-outs, lock a page's lane and return it; None if the ledger has no such lane."""
    row = connection.execute(
        sql_file("fence"),
        {
            "run": message.run,
            "lane": message.lane,
            "lock_timeout": f"{lock_ms}ms",
            "statement_timeout": f"{statement_ms}ms",
        },
    ).one_or_none()
    if row is None:
        return None
    return Fence(
        run_state=row.run_state,
        parameters=Parameters.from_json(row.parameters),
        single_batch=row.single_batch,
        batch_lane=row.batch_lane,
        started_at=row.started_at,
        lane=lane_of(row),
    )


def take_turn(
    connection: Connection, backfill: str, run: RunId, jobs: Sequence[str], *, lock_ms: int, patience_ms: int
) -> Tally:
    """Wait for this page's turn and return the run's tally; the turn ends with the transaction.

    Pages that take turns run one at a time.

    Args:
        connection: in the page's transaction.
        backfill: the backfill whose pages take turns, across all its runs, because they fill one queue.
        run: the page's run.
        jobs: the classes whose items are jobs that the run has enqueued.
        lock_ms: the page's lock time-out, restored afterwards.
        patience_ms: how long to wait for the turn.
    """
    turn = {"backfill": backfill, "patience": f"{patience_ms}ms", "lock_timeout": f"{lock_ms}ms"}
    connection.execute(sql_file("turn"), turn)
    row = connection.execute(sql_file("tally"), {"run": run, "jobs": list(jobs)}).one()
    return Tally(row.state, row.ordinal, row.due_at, row.jobs)


def record(
    connection: Connection,
    message: PageMessage,
    found: Fence,
    result: PageResult,
    quarantined: Sequence[Quarantined],
    *,
    size: int | None,
    seconds: float,
) -> int | None:
    """Write a page's row and its quarantined items, and move the lane past the page.

    `size` is the limit for the lane's next page (None: the run's limit); `seconds` is this page's duration. If the page
    is the last of a single batch's lane and the batch hasn't ended with it, return the lane in which the batch
    continues.
    """
    counts = Counter(found.lane.counts)
    counts.update(result.counts)
    identity = {"run": message.run, "lane": message.lane, "page": message.page}
    connection.execute(
        sql_file("record"),
        {
            **identity,
            "generation": message.generation,
            "lower": found.lane.position,
            "cursor": result.cursor,
            "counts": as_json(dict(result.counts)),
            "enqueued": as_array(result.enqueued),
            "lane_counts": as_json(counts),
            "delay_ms": found.parameters.page_delay_ms,
            "size": size,
            "seconds": seconds,
        },
    )
    if result.numbered:
        connection.execute(
            statement(
                "UPDATE backfill.run SET ordinal = ordinal + :numbered, due_at = coalesce(:due_at, due_at)"
                " WHERE id = :run"
            ),
            {"run": message.run, "numbered": result.numbered, "due_at": result.due_at},
        )
    keep(connection, message, quarantined)
    lane_done = result.cursor == found.lane.bounds.upper
    if lane_done:
        move_lanes(connection, message.run, [found.lane], "done", by="page")
    if not found.single_batch:
        return None
    ends = batch.ends_with(message.page, result.counts)
    if lane_done and not ends:
        return _next_lane_of_the_batch(connection, message.run)
    if ends and _is_unended(connection, message.run):
        move_run(connection, message.run, "paused", by="page", reason=batch.reason(result.counts))
    return None


def put_off(connection: Connection, message: PageMessage, seconds: float, kind: str, reason: str) -> PageMessage:
    """Record why a page wasn't admitted and return the message that asks again.

    The caller must hold the lane's row lock.
    """
    again = replace(message, waits=message.waits + 1)
    _hold(connection, message, seconds, reason, kind=kind, waits=again.waits)
    return again


def hold_back(connection: Connection, message: PageMessage, seconds: float, reason: str) -> None:
    """Record why a failed page waits for its retry, and halve the page size: the failure may be due to others' load.

    A no-op if the page has been committed since, a newer chain has the lane, or the lane has ended.
    """
    _hold(connection, message, seconds, reason, kind="retry", smaller=True)


def _hold(
    connection: Connection,
    message: PageMessage,
    seconds: float,
    reason: str,
    *,
    kind: str,
    waits: int | None = None,
    smaller: bool = False,
) -> None:
    connection.execute(
        sql_file("hold"),
        {
            "run": message.run,
            "lane": message.lane,
            "page": message.page,
            "generation": message.generation,
            "seconds": seconds,
            "reason": reason,
            "kind": kind,
            "waits": waits,
            "smaller": smaller,
        },
    )


def fail_lane(connection: Connection, message: PageMessage, reason: str) -> bool:
    """Stop the lane that waits for this page; return False if it has moved on or ended, or its run is finished."""
    locked = [
        lane
        for lane in lock_lanes(connection, message.run, [message.lane])
        if (lane.generation, lane.page + 1) == (message.generation, message.page)
    ]
    detail = {"page": message.page, "reason": reason}
    return bool(move_lanes(connection, message.run, locked, "failed", by="page", reason=reason, detail=detail))


def _next_lane_of_the_batch(connection: Connection, run: RunId) -> int | None:
    """Continue a single batch in the first lane that has not ended and return its number; None if all have ended."""
    moved: int | None = connection.execute(
        statement(
            "UPDATE backfill.run SET batch_lane = next.number FROM ("
            " SELECT min(number) AS number FROM backfill.lane WHERE run_id = :run AND state = 'running'"
            ") AS next WHERE run.id = :run AND next.number IS NOT NULL RETURNING batch_lane"
        ),
        {"run": run},
    ).scalar_one_or_none()
    return moved


def _is_unended(connection: Connection, run: RunId) -> bool:
    query = statement("SELECT EXISTS (SELECT FROM backfill.lane WHERE run_id = :run AND state = 'running')")
    return bool(connection.execute(query, {"run": run}).scalar_one())
