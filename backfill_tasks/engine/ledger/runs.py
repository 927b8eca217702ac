"""A run's life: written, moved from state to state, tuned, seeded again, ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from backfill_tasks.engine.database import statement
from backfill_tasks.engine.encoding import as_json
from backfill_tasks.engine.ledger.rows import lane_of, note, sql_file, who
from backfill_tasks.engine.model import UNFINISHED, Lane, PageMessage, RunId, RunState
from backfill_tasks.options import Parameters


@dataclass(frozen=True)
class NewRun:
    """A run to be written: `ordinal` counts the items that an earlier run numbered; `expected`, what it will read."""

    id: RunId
    parameters: Parameters
    lanes: tuple[Lane, ...]
    single_batch: bool = False
    ordinal: int = 0
    expected: int | None = None

    @property
    def batch_lane(self) -> int | None:
        """The lane that a single batch walks; None: all may move."""
        running = [lane.number for lane in self.lanes if lane.state == "running"]
        return running[0] if self.single_batch and running else None


@dataclass(frozen=True)
class StalledLane:
    """A lane that has not moved for a while."""

    run: RunId
    lane: int
    page: int
    generation: int

    @property
    def awaited(self) -> PageMessage:
        """The message that should be on its way."""
        return PageMessage(self.run, self.lane, self.page + 1, self.generation)


def hold_starts(connection: Connection) -> None:
    """Wait until nobody else is starting a run; nobody else does until the transaction ends."""
    connection.execute(statement("SELECT pg_advisory_xact_lock(hashtextextended('backfill:start', 0))"))


def create(connection: Connection, new: NewRun, *, detail: Mapping[str, Any] | None = None) -> None:
    """Write a new run with its lanes; `detail` is what its first event says beside them."""
    connection.execute(
        statement(
            "INSERT INTO backfill.run (id, backfill, state, parameters, single_batch, batch_lane, ordinal, expected,"
            " started_by) VALUES (:id, :backfill, 'running', CAST(:parameters AS jsonb), :single_batch, :batch_lane,"
            " :ordinal, :expected, :who)"
        ),
        {
            "id": new.id,
            "backfill": new.parameters.backfill,
            "parameters": as_json(new.parameters.as_json()),
            "single_batch": new.single_batch,
            "batch_lane": new.batch_lane,
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
            "counts": as_json(dict(lane.counts)),
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
    started = {"parameters": new.parameters.as_json(), "lanes": len(rows), **(detail or {})}
    note(connection, new.id, "started", started, who=who())


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
    state: RunState | None = connection.execute(sql_file("finish"), {"run": run}).scalar()
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


def revive(connection: Connection, stalled: StalledLane) -> Lane | None:
    """Begin a new chain in a lane that stands; None if since it was seen to, it has moved, ended or been seeded."""
    row = connection.execute(
        statement(
            "UPDATE backfill.lane SET generation = generation + 1, reason = NULL, held_until = now(),"
            " waits = 0 WHERE run_id = :run AND number = :lane AND generation = :generation AND page = :page"
            " AND state = 'running' RETURNING *"
        ),
        {
            "run": stalled.run,
            "lane": stalled.lane,
            "page": stalled.page,
            "generation": stalled.generation,
        },
    ).one_or_none()
    if row is None:
        return None
    detail = {"lane": stalled.lane, "page": stalled.page, "reason": "its task was lost"}
    note(connection, stalled.run, "lane seeded again", detail, who=who())
    return lane_of(row)


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
            {"run": run, "new": as_json({name: new for name, (_, new) in changed.items()})},
        )
        note(connection, run, "tuned", {name: list(both) for name, both in changed.items()}, who=who())
    return changed


def reopen(connection: Connection, run: RunId, *, single_batch: bool, batch_lane: int | None) -> None:
    """Make an unfinished run a running one again; `batch_lane`: the only lane that may move (None: all)."""
    connection.execute(
        statement(
            "UPDATE backfill.run SET state = 'running', reason = NULL, finished_at = NULL,"
            " single_batch = :single_batch, batch_lane = :batch_lane WHERE id = :run AND state = ANY (:unfinished)"
        ),
        {
            "run": run,
            "single_batch": single_batch,
            "batch_lane": batch_lane,
            "unfinished": list(UNFINISHED),
        },
    )


def stalled(connection: Connection, seconds: float) -> list[StalledLane]:
    """Lanes that have not moved for so many seconds though nothing that the ledger knows of holds them back."""
    rows = connection.execute(sql_file("stalled"), {"seconds": seconds})
    return [StalledLane(RunId(row.run_id), row.number, row.page, row.generation) for row in rows]


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
