"""A run's life: written, tuned, resumed, reseeded, finished."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from backfill_tasks.engine.database import statement
from backfill_tasks.engine.encoding import as_json
from backfill_tasks.engine.ledger.rows import note, sql_file, who
from backfill_tasks.engine.ledger.transitions import hold_lanes, hold_run, move_lanes, move_run
from backfill_tasks.engine.model import Lane, PageMessage, RunId
from backfill_tasks.engine.states import UNFINISHED_LANES, RunState
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


def finish(connection: Connection, run: RunId) -> RunState | None:
    """End a run that nothing moves any more, and return how it ended; None if it goes on, is halted or had ended.

    The run is locked before its lanes are read, so a resume at the same time comes either before or after.
    """
    hold_run(connection, run)
    for each in _ended(connection, [run]):
        new: RunState = "failed" if each.failed else "complete"
        if move_run(connection, run, new, by="finisher", reason=each.reason):
            return new
    return None


def unended(connection: Connection) -> list[RunId]:
    """Return running runs that nothing moves any more: the process that should have finished them died before."""
    return [RunId(each.id) for each in _ended(connection, running(connection))]


def _ended(connection: Connection, runs: Sequence[RunId]) -> Sequence[Row[Any]]:
    return connection.execute(sql_file("ended"), {"runs": list(runs)}).all()


def resume(
    connection: Connection, run: RunId, held: Sequence[Lane], *, single_batch: bool, lost_lanes: Sequence[int]
) -> list[Lane]:
    """Make a run a running one and reseed its lanes that are left; return these lanes.

    Args:
        connection: in a transaction that has locked all the run's lanes first, and then the run.
        run: the run; nothing is changed if its state doesn't allow this.
        held: all its lanes.
        single_batch: whether only the first lane that is left is reseeded, and may move.
        lost_lanes: the lanes whose cursor Redis had lost, for the event.
    """
    left = [lane for lane in held if lane.state in UNFINISHED_LANES]
    seeded = left[:1] if single_batch else left
    if not move_run(connection, run, "running", by="operator", detail={"lost_lanes": list(lost_lanes)}):
        return []
    connection.execute(
        statement("UPDATE backfill.run SET single_batch = :single, batch_lane = :batch_lane WHERE id = :run"),
        {"run": run, "single": single_batch, "batch_lane": seeded[0].number if single_batch and seeded else None},
    )
    return move_lanes(connection, run, seeded, "running", by="operator")


def reseed(connection: Connection, run: RunId, lanes: Sequence[int]) -> list[Lane]:
    """Start a new chain in these lanes of a running run, and return those that had not ended."""
    return move_lanes(connection, run, hold_lanes(connection, run, lanes), "running", by="page")


def revive(connection: Connection, stalled: StalledLane) -> Lane | None:
    """Start a new chain in a stalled lane; None if it has moved or ended since, or its run is no longer running."""
    held = [
        lane
        for lane in hold_lanes(connection, stalled.run, [stalled.lane])
        if (lane.generation, lane.page) == (stalled.generation, stalled.page)
    ]
    detail = {"page": stalled.page, "reason": "its task was lost"}
    return next(iter(move_lanes(connection, stalled.run, held, "running", by="watchdog", detail=detail)), None)


def tune(connection: Connection, run: RunId, changes: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Change the parameters of a run that the caller has locked, and note it; return what was changed, old and new.

    Pages that are at work end as they began; the next ones go by the new values.
    """
    own = connection.execute(
        statement("SELECT parameters FROM backfill.run WHERE id = :run"), {"run": run}
    ).scalar_one()
    changed = {name: (own[name], new) for name, new in changes.items() if own[name] != new}
    if changed:
        connection.execute(
            statement("UPDATE backfill.run SET parameters = parameters || CAST(:new AS jsonb) WHERE id = :run"),
            {"run": run, "new": as_json({name: new for name, (_, new) in changed.items()})},
        )
        note(connection, run, "tuned", {name: list(both) for name, both in changed.items()}, who=who())
    return changed


def stalled(connection: Connection, seconds: float) -> list[StalledLane]:
    """Lanes that have not moved for so many seconds though nothing that the ledger knows of holds them back."""
    rows = connection.execute(sql_file("stalled"), {"seconds": seconds})
    return [StalledLane(RunId(row.run_id), row.number, row.page, row.generation) for row in rows]


def running(connection: Connection) -> list[RunId]:
    """The runs that are running, the oldest first."""
    query = statement("SELECT id FROM backfill.run WHERE state = 'running' ORDER BY started_at, id")
    return [RunId(each) for each in connection.execute(query).scalars()]
