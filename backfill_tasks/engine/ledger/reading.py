"""Reading the ledger: runs with their lanes, what their pages claim, what happened to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from backfill_tasks.engine.contract import PageClaim
from backfill_tasks.engine.database import load_sql, statement
from backfill_tasks.engine.ledger.rows import lane_of
from backfill_tasks.engine.model import Lane, Run, RunId
from backfill_tasks.engine.states import HALTED, UNFINISHED, UNFINISHED_LANES, RunState
from backfill_tasks.options import Parameters


@dataclass(frozen=True)
class Event:
    """An event of a run or of the drain: when, what, and by which user on which host."""

    at: datetime
    name: str
    detail: Mapping[str, Any]
    who: str


@dataclass(frozen=True)
class Unfinished:
    """A run with lanes left to walk, and its parameters as stored in the ledger, by whatever version."""

    run: RunId
    state: RunState
    parameters: Mapping[str, Any]


def read_run(connection: Connection, run: RunId) -> Run | None:
    """Return a run with its lanes; None if there is no such run.

    Two statements read them: they see the same moment only in a transaction with a single snapshot.
    """
    rows = connection.execute(
        statement("SELECT *, clock_timestamp() AS seen_at FROM backfill.run WHERE id = :run"), {"run": run}
    )
    row = rows.one_or_none()
    if row is None:
        return None
    lanes = connection.execute(
        statement("SELECT * FROM backfill.lane WHERE run_id = :run ORDER BY number"), {"run": run}
    ).all()
    return Run(
        id=RunId(row.id),
        mode="apply",
        state=row.state,
        reason=row.reason,
        parameters=Parameters.from_json(row.parameters),
        single_batch=row.single_batch,
        started_at=row.started_at,
        finished_at=row.finished_at,
        seen_at=row.seen_at,
        started_by=row.started_by,
        ordinal=row.ordinal,
        expected=row.expected,
        lanes=tuple(_lane_of_a(row.state, lane_of(lane)) for lane in lanes),
    )


def _lane_of_a(state: RunState, lane: Lane) -> Lane:
    """Drop a lane's reason for waiting if its run is paused or has ended: nothing waits for it any more."""
    return replace(lane, reason=None) if lane.state == "running" and state != "running" else lane


def newest_run(
    connection: Connection, *, states: Sequence[RunState] | None = None, backfill: str | None = None
) -> RunId | None:
    """Return the newest run in one of these states and of this backfill (None: any)."""
    found = connection.execute(
        statement(
            "SELECT id FROM backfill.run WHERE (CAST(:states AS text[]) IS NULL OR state = ANY (:states))"
            " AND (CAST(:backfill AS text) IS NULL OR parameters ->> 'backfill' = :backfill)"
            " ORDER BY started_at DESC, id DESC LIMIT 1"
        ),
        {"states": None if states is None else list(states), "backfill": backfill},
    ).scalar()
    return None if found is None else RunId(found)


def unfinished(connection: Connection, backfill: str) -> list[Unfinished]:
    """Return a backfill's unfinished runs that have lanes left to walk, newest first."""
    rows = connection.execute(
        statement(
            "SELECT id, state, parameters FROM backfill.run WHERE backfill = :backfill AND state = ANY (:states)"
            " AND EXISTS (SELECT FROM backfill.lane WHERE run_id = run.id AND lane.state = ANY (:lanes))"
            " ORDER BY started_at DESC, id DESC"
        ),
        {"backfill": backfill, "states": list(UNFINISHED), "lanes": list(UNFINISHED_LANES)},
    )
    return [Unfinished(RunId(row.id), row.state, row.parameters) for row in rows]


@dataclass(frozen=True)
class Forgotten:
    """A paused or failed run without an event since `since`."""

    run: RunId
    state: RunState
    since: datetime


def forgotten(connection: Connection, seconds: float) -> list[Forgotten]:
    """Return the runs that wait for an operator and have had no event for this many seconds, oldest first."""
    rows = connection.execute(
        statement(
            "SELECT run.id, run.state, max(event.at) AS since"
            " FROM backfill.run JOIN backfill.event ON event.run_id = run.id"
            " WHERE run.state = ANY (:states) GROUP BY run.id"
            " HAVING max(event.at) < now() - :seconds * interval '1 second' ORDER BY since, run.id"
        ),
        {"seconds": seconds, "states": list(HALTED)},
    )
    return [Forgotten(RunId(row.id), row.state, row.since) for row in rows]


def newest_runs(connection: Connection, count: int) -> list[RunId]:
    """Return the ids of the newest runs, newest first."""
    found = connection.execute(
        statement("SELECT id FROM backfill.run ORDER BY started_at DESC, id DESC LIMIT :count"), {"count": count}
    ).scalars()
    return [RunId(each) for each in found]


def claims(connection: Connection, run: RunId) -> list[PageClaim]:
    """Return the claims of all pages of a run, in order."""
    rows = connection.execute(statement(load_sql("backfill_tasks.engine", "sql/claims.sql")), {"run": run})
    return [PageClaim(row.lane, row.number, row.lower, row.cursor, row.times, row.counts, row.beside) for row in rows]


def events(connection: Connection, run: RunId) -> list[Event]:
    """Return all events of a run, in order."""
    rows = connection.execute(
        statement("SELECT at, name, detail, who FROM backfill.event WHERE run_id = :run ORDER BY id"), {"run": run}
    )
    return [Event(row.at, row.name, row.detail, row.who) for row in rows]


def drain_events(connection: Connection, most: int) -> list[Event]:
    """Return the newest events of the drain, oldest first."""
    rows = connection.execute(
        statement("SELECT at, name, detail, who FROM backfill.event WHERE run_id IS NULL ORDER BY id DESC LIMIT :most"),
        {"most": most},
    ).all()
    return [Event(row.at, row.name, row.detail, row.who) for row in reversed(rows)]
