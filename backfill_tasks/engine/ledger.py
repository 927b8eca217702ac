"""The ledger in PostgreSQL: runs, lanes, pages, quarantine, events. Each function is one step of a transaction."""

import getpass
import json
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, TextClause

from backfill_tasks.engine.backfill import PageClaim
from backfill_tasks.engine.database import load_sql, statement
from backfill_tasks.engine.model import (
    UNFINISHED,
    Bounds,
    Lane,
    PageMessage,
    PageResult,
    Parameters,
    Quarantined,
    Run,
    RunId,
    RunState,
)

#: Longest error text that is kept of a quarantined item, in characters.
_ERROR_LENGTH = 1_000


@dataclass(frozen=True)
class Fence:
    """What a page's first statement found: the lane, held until the transaction ends, and what matters of its run."""

    run_state: RunState
    parameters: Parameters
    single_batch: bool
    started_at: datetime
    lane: Lane


@dataclass(frozen=True)
class Tally:
    """What a page that takes turns with all others finds of its run.

    Attributes:
        state: the run's state.
        ordinal: how many items are numbered before it.
        due_at: until when they are spread; None: none is.
        jobs: how many jobs the run has enqueued.
    """

    state: RunState
    ordinal: int
    due_at: datetime | None
    jobs: int


@dataclass(frozen=True)
class StandingLane:
    """A lane that has not moved for a while."""

    run: RunId
    lane: int
    page: int
    generation: int

    @property
    def awaited(self) -> PageMessage:
        """The message that should be on its way."""
        return PageMessage(self.run, self.lane, self.page + 1, self.generation)


@dataclass(frozen=True)
class Event:
    """Something that happened to a run: when, what, and by which user on which host."""

    at: datetime
    name: str
    detail: Mapping[str, Any]
    who: str


@dataclass(frozen=True)
class Place:
    """The page that a quarantined item was met on."""

    lane: int
    page: int


def who() -> str:
    """The user and host of this process, as events name them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


# ---------------------------------------------------------------- a page's transaction


def fence(connection: Connection, message: PageMessage, *, lock_ms: int, statement_ms: int) -> Fence | None:
    """Hold a page's lane and read it; None if the ledger has no such lane."""
    row = connection.execute(
        _file("fence"),
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
        started_at=row.started_at,
        lane=_lane(row),
    )


def take_turn(
    connection: Connection, backfill: str, run: RunId, jobs: Sequence[str], *, lock_ms: int, patience_ms: int
) -> Tally:
    """Wait until no other page of this backfill is at work that takes turns; the turn ends with the transaction.

    Args:
        connection: in the page's transaction.
        backfill: whose pages take turns, of all its runs: they fill one queue.
        run: the page's run.
        jobs: the classes whose items are jobs that the run has enqueued.
        lock_ms: the page's time-out for locks, which holds again afterwards.
        patience_ms: how long to wait for the turn.
    """
    turn = {"backfill": backfill, "patience": f"{patience_ms}ms", "lock_timeout": f"{lock_ms}ms"}
    connection.execute(_file("turn"), turn)
    row = connection.execute(_file("tally"), {"run": run, "jobs": list(jobs)}).one()
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
) -> None:
    """Write a page's row, its quarantined items, and the lane moved past it.

    `size` is what its next page may hold (None: the run's limit); `seconds`, what this one took.
    """
    counts = Counter(found.lane.counts)
    counts.update(result.counts)
    identity = {"run": message.run, "lane": message.lane, "page": message.page}
    connection.execute(
        _file("record"),
        {
            **identity,
            "generation": message.generation,
            "lower": found.lane.position,
            "cursor": result.cursor,
            "counts": json.dumps(dict(result.counts)),
            "lane_counts": json.dumps(counts),
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
    if quarantined:
        connection.execute(
            statement(
                "INSERT INTO backfill.quarantine (run_id, item, lane, page, error)"
                " VALUES (:run, :item, :lane, :page, :error)"
                " ON CONFLICT (run_id, item) DO UPDATE SET error = EXCLUDED.error"
            ),
            [{**identity, "item": each.item, "error": each.error[:_ERROR_LENGTH]} for each in quarantined],
        )
    if found.single_batch and _is_unended(connection, message.run):
        set_state(connection, message.run, "paused", reason="single batch done", who=who())


def put_off(connection: Connection, message: PageMessage, seconds: float, reason: str) -> PageMessage:
    """Note that the page of a lane that is held waits for leave, and why; answers the message that asks again."""
    connection.execute(
        statement(
            "UPDATE backfill.lane SET held_until = clock_timestamp() + :seconds * interval '1 second',"
            " reason = :reason, waits = :waits WHERE run_id = :run AND number = :lane"
        ),
        {
            "run": message.run,
            "lane": message.lane,
            "seconds": seconds,
            "reason": reason,
            "waits": message.waits + 1,
        },
    )
    return replace(message, waits=message.waits + 1)


def hold_back(connection: Connection, message: PageMessage, seconds: float, reason: str) -> None:
    """Note that a lane waits before it tries a page again, and why; unless somebody else has done the page.

    The next try is half as large: what made it fail may be others' load.
    """
    connection.execute(
        statement(
            "UPDATE backfill.lane SET held_until = now() + :seconds * interval '1 second', reason = :reason,"
            " size = greatest(1, least(size, (run.parameters ->> 'limit')::int) / 2)"
            " FROM backfill.run WHERE run.id = run_id AND run_id = :run AND number = :lane"
            " AND generation = :generation AND page = :page - 1 AND lane.state = 'running'"
        ),
        {
            "run": message.run,
            "lane": message.lane,
            "page": message.page,
            "generation": message.generation,
            "seconds": seconds,
            "reason": reason,
        },
    )


def fail_lane(connection: Connection, message: PageMessage, reason: str) -> bool:
    """Stop a lane for a reason; False if a newer chain has it, its page is done, or it stopped before."""
    stopped = connection.execute(
        statement(
            "UPDATE backfill.lane SET state = 'failed', reason = :reason WHERE run_id = :run AND number = :lane"
            " AND generation = :generation AND page = :page - 1 AND state = 'running' RETURNING 1"
        ),
        {
            "run": message.run,
            "lane": message.lane,
            "page": message.page,
            "generation": message.generation,
            "reason": reason,
        },
    ).one_or_none()
    if stopped is None:
        return False
    note(
        connection,
        message.run,
        "lane failed",
        {"lane": message.lane, "page": message.page, "reason": reason},
        who=who(),
    )
    return True


# ---------------------------------------------------------------- a run's life


@dataclass(frozen=True)
class NewRun:
    """A run to be written: `ordinal` counts the items that an earlier run numbered; `expected`, what it will read."""

    id: RunId
    parameters: Parameters
    lanes: tuple[Lane, ...]
    single_batch: bool = False
    ordinal: int = 0
    expected: int | None = None


def create(connection: Connection, new: NewRun) -> None:
    """Write a new run with its lanes."""
    connection.execute(
        statement(
            "INSERT INTO backfill.run (id, backfill, state, parameters, single_batch, ordinal, expected, started_by)"
            " VALUES (:id, :backfill, 'running', CAST(:parameters AS jsonb), :single_batch, :ordinal, :expected, :who)"
        ),
        {
            "id": new.id,
            "backfill": new.parameters.backfill,
            "parameters": json.dumps(new.parameters.as_json()),
            "single_batch": new.single_batch,
            "ordinal": new.ordinal,
            "expected": new.expected,
            "who": who(),
        },
    )
    rows = [
        {
            "run": new.id,
            "number": lane.number,
            "lower": lane.bounds.lower,
            "upper": lane.bounds.upper,
            "cursor": lane.cursor,
            "page": lane.page,
            "state": lane.state,
            "counts": json.dumps(dict(lane.counts)),
        }
        for lane in new.lanes
    ]
    if rows:
        connection.execute(
            statement(
                "INSERT INTO backfill.lane (run_id, number, lower_bound, upper_bound, cursor, page, state, counts)"
                " VALUES (:run, :number, :lower, :upper, :cursor, :page, :state, CAST(:counts AS jsonb))"
            ),
            rows,
        )
    note(connection, new.id, "started", {"parameters": new.parameters.as_json(), "lanes": len(rows)}, who=who())


def set_state(connection: Connection, run: RunId, state: RunState, *, reason: str | None, who: str) -> bool:
    """Move a run to another state and note it; False if it has ended, or is in that state already."""
    ended = state == "cancelled"
    row = connection.execute(
        statement(
            "UPDATE backfill.run SET state = :state, reason = :reason,"
            " finished_at = CASE WHEN :ended THEN date_trunc('milliseconds', now()) END"
            " FROM (SELECT state FROM backfill.run WHERE id = :run FOR NO KEY UPDATE) AS old"
            " WHERE id = :run AND run.state = ANY (:from) AND run.state <> :state RETURNING old.state"
        ),
        {"run": run, "state": state, "reason": reason, "ended": ended, "from": list(UNFINISHED)},
    ).one_or_none()
    if row is None:
        return False
    note(connection, run, state, {"old": row.state, "new": state, "reason": reason}, who=who)
    return True


def finish(connection: Connection, run: RunId) -> RunState | None:
    """End a run whose lanes have all ended, and answer how; None if some have not, or it had ended before."""
    state: RunState | None = connection.execute(_file("finish"), {"run": run}).scalar()
    if state is not None:
        note(connection, run, state, {}, who=who())
    return state


def raise_generations(connection: Connection, run: RunId, lanes: Sequence[int]) -> None:
    """Begin a new chain in each of these lanes that has not come to its end: older tasks become no-ops."""
    connection.execute(
        statement(
            "UPDATE backfill.lane SET generation = generation + 1, state = 'running', reason = NULL, moved_at = now(),"
            " held_until = now(), waits = 0 WHERE run_id = :run AND number = ANY (:lanes) AND state <> 'done'"
        ),
        {"run": run, "lanes": list(lanes)},
    )


def revive(connection: Connection, standing: StandingLane) -> Lane | None:
    """Begin a new chain in a lane that stands; None if since it was seen to, it has moved, ended or been seeded."""
    row = connection.execute(
        statement(
            "UPDATE backfill.lane SET generation = generation + 1, reason = NULL, moved_at = now(), held_until = now(),"
            " waits = 0 WHERE run_id = :run AND number = :lane AND generation = :generation AND page = :page"
            " AND state = 'running' RETURNING *"
        ),
        {
            "run": standing.run,
            "lane": standing.lane,
            "page": standing.page,
            "generation": standing.generation,
        },
    ).one_or_none()
    if row is None:
        return None
    detail = {"lane": standing.lane, "page": standing.page, "reason": "its task was lost"}
    note(connection, standing.run, "lane seeded again", detail, who=who())
    return _lane(row)


def tune(connection: Connection, run: RunId, changes: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Change an unfinished run's parameters and note it; answers what was changed, old and new.

    Pages that are at work end as they began; the next ones go by the new values. Empty if the run has ended.
    """
    row = connection.execute(
        statement("SELECT parameters FROM backfill.run WHERE id = :run AND state = ANY (:from) FOR NO KEY UPDATE"),
        {"run": run, "from": list(UNFINISHED)},
    ).one_or_none()
    if row is None:
        return {}
    changed = {name: (row.parameters[name], new) for name, new in changes.items() if row.parameters[name] != new}
    if changed:
        connection.execute(
            statement("UPDATE backfill.run SET parameters = parameters || CAST(:new AS jsonb) WHERE id = :run"),
            {"run": run, "new": json.dumps({name: new for name, (_, new) in changed.items()})},
        )
        note(connection, run, "tuned", {name: list(both) for name, both in changed.items()}, who=who())
    return changed


def reopen(connection: Connection, run: RunId, *, single_batch: bool) -> None:
    """Make an unfinished run a running one again."""
    connection.execute(
        statement(
            "UPDATE backfill.run SET state = 'running', reason = NULL, finished_at = NULL, single_batch = :single_batch"
            " WHERE id = :run AND state = ANY (:unfinished)"
        ),
        {"run": run, "single_batch": single_batch, "unfinished": list(UNFINISHED)},
    )


def note(connection: Connection, run: RunId, name: str, detail: Mapping[str, Any], *, who: str) -> None:
    """Write an event."""
    connection.execute(
        statement(
            "INSERT INTO backfill.event (run_id, name, detail, who) VALUES (:run, :name, CAST(:detail AS jsonb), :who)"
        ),
        {"run": run, "name": name, "detail": json.dumps(dict(detail)), "who": who},
    )


# ---------------------------------------------------------------- reading


def read_run(connection: Connection, run: RunId) -> Run | None:
    """A run with its lanes, as of one moment."""
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
        lanes=tuple(_lane(lane) for lane in lanes),
    )


def newest_run(
    connection: Connection, *, states: Sequence[RunState] | None = None, backfill: str | None = None
) -> RunId | None:
    """The run that was started last, of those in one of these states and of this backfill (None: any)."""
    found = connection.execute(
        statement(
            "SELECT id FROM backfill.run WHERE (CAST(:states AS text[]) IS NULL OR state = ANY (:states))"
            " AND (CAST(:backfill AS text) IS NULL OR parameters ->> 'backfill' = :backfill)"
            " ORDER BY started_at DESC, id DESC LIMIT 1"
        ),
        {"states": None if states is None else list(states), "backfill": backfill},
    ).scalar()
    return None if found is None else RunId(found)


def newest_runs(connection: Connection, count: int) -> list[RunId]:
    """The ids of the runs that were started last, newest first."""
    found = connection.execute(
        statement("SELECT id FROM backfill.run ORDER BY started_at DESC, id DESC LIMIT :count"), {"count": count}
    ).scalars()
    return [RunId(each) for each in found]


def quarantined(connection: Connection, run: RunId, *, most: int | None) -> list[Quarantined]:
    """The run's first quarantined items (None: all), in the order of their pages."""
    rows = connection.execute(
        statement(
            "SELECT item, error FROM backfill.quarantine WHERE run_id = :run ORDER BY lane, page, item LIMIT :most"
        ),
        {"run": run, "most": most},
    )
    return [Quarantined(row.item, row.error) for row in rows]


def hold_quarantined(connection: Connection, run: RunId, item: str) -> Place | None:
    """Where a quarantined item is, held until the transaction ends; None if it is not, or somebody else holds it."""
    row = connection.execute(
        statement(
            "SELECT lane, page FROM backfill.quarantine WHERE run_id = :run AND item = :item FOR UPDATE SKIP LOCKED"
        ),
        {"run": run, "item": item},
    ).one_or_none()
    return None if row is None else Place(row.lane, row.page)


def keep_in_quarantine(connection: Connection, run: RunId, item: str, error: str) -> None:
    """Note the error that an item has failed with again."""
    connection.execute(
        statement("UPDATE backfill.quarantine SET error = :error, at = now() WHERE run_id = :run AND item = :item"),
        {"run": run, "item": item, "error": error[:_ERROR_LENGTH]},
    )


def release(connection: Connection, run: RunId, item: str, place: Place, lane: Lane, result: PageResult) -> None:
    """Take an item out of quarantine: its page and its lane, which is held, count what became of it instead."""
    identity = {"run": run, "lane": place.lane, "page": place.page}
    page = connection.execute(
        statement("SELECT counts FROM backfill.page WHERE run_id = :run AND lane = :lane AND number = :page"), identity
    ).one()
    failed = {"read": 1, "quarantined": 1}
    connection.execute(
        _file("release"),
        {
            **identity,
            "item": item,
            "counts": json.dumps(_added(page.counts, result.counts, less=failed)),
            "lane_counts": json.dumps(_added(lane.counts, result.counts, less=failed)),
            "numbered": result.numbered,
            "due_at": result.due_at,
        },
    )


def _added(counts: Mapping[str, int], more: Mapping[str, int], *, less: Mapping[str, int]) -> dict[str, int]:
    names = {*counts, *more}
    return {name: counts.get(name, 0) + more.get(name, 0) - less.get(name, 0) for name in names}


def count_quarantined(connection: Connection, run: RunId) -> int:
    """How many of the run's items are in quarantine."""
    query = statement("SELECT count(*) FROM backfill.quarantine WHERE run_id = :run")
    return int(connection.execute(query, {"run": run}).scalar_one())


def claims(connection: Connection, run: RunId) -> list[PageClaim]:
    """What every page of a run says that it did, in order."""
    rows = connection.execute(
        statement(
            "SELECT lane, number, lower, cursor, at || retried AS times, counts FROM backfill.page"
            " WHERE run_id = :run ORDER BY lane, number"
        ),
        {"run": run},
    )
    return [PageClaim(row.lane, row.number, row.lower, row.cursor, row.times, row.counts) for row in rows]


def events(connection: Connection, run: RunId) -> list[Event]:
    """All that happened to a run, in order."""
    rows = connection.execute(
        statement("SELECT at, name, detail, who FROM backfill.event WHERE run_id = :run ORDER BY id"), {"run": run}
    )
    return [Event(row.at, row.name, row.detail, row.who) for row in rows]


def standing(connection: Connection, seconds: float) -> list[StandingLane]:
    """Lanes that have not moved for so many seconds though nothing that the ledger knows of holds them back."""
    rows = connection.execute(_file("standing"), {"seconds": seconds})
    return [StandingLane(RunId(row.run_id), row.number, row.page, row.generation) for row in rows]


def running(connection: Connection) -> list[RunId]:
    """The runs that are running, the oldest first."""
    query = statement("SELECT id FROM backfill.run WHERE state = 'running' ORDER BY started_at, id")
    return [RunId(each) for each in connection.execute(query).scalars()]


def unended(connection: Connection) -> list[RunId]:
    """Unended runs none of whose lanes is still on its way: whoever should have ended them did not live to."""
    rows = connection.execute(
        statement(
            "SELECT id FROM backfill.run WHERE state IN ('running', 'paused')"
            " AND NOT EXISTS (SELECT FROM backfill.lane WHERE run_id = run.id AND state = 'running')"
        )
    )
    return [RunId(each) for each in rows.scalars()]


def _is_unended(connection: Connection, run: RunId) -> bool:
    query = statement("SELECT EXISTS (SELECT FROM backfill.lane WHERE run_id = :run AND state = 'running')")
    return bool(connection.execute(query, {"run": run}).scalar_one())


def _file(name: str) -> TextClause:
    return statement(load_sql("backfill_tasks.engine", f"sql/{name}.sql"))


def _lane(row: Row[Any]) -> Lane:
    return Lane(
        number=row.number,
        bounds=Bounds(row.lower_bound, row.upper_bound),
        cursor=row.cursor,
        page=row.page,
        generation=row.generation,
        state=row.state,
        reason=row.reason,
        counts=row.counts,
        moved_at=row.moved_at,
        size=row.size,
        waits=row.waits,
    )
