"""The life of a run: create, tune, resume, reseed, finish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from backfill_tasks.engine.database import statement
from backfill_tasks.engine.encoding import as_json
from backfill_tasks.engine.ledger.rows import note, sql_file, who
from backfill_tasks.engine.ledger.transitions import lock_lanes, lock_run, move_lanes, move_run
from backfill_tasks.engine.model import Lane, PageMessage, RunId
from backfill_tasks.engine.states import UNFINISHED_LANES, RunState
from backfill_tasks.options import Parameters


@dataclass(frozen=True)
class NewRun:
    """A run to create. `ordinal`: the items an earlier run has numbered; `expected`: the items this run will read."""

    id: RunId
    parameters: Parameters
    lanes: tuple[Lane, ...]
    single_batch: bool = False
    ordinal: int = 0
    expected: int | None = None

    @property
    def batch_lane(self) -> int | None:
        """The lane that a single batch walks; None if all lanes may move."""
        running = [lane.number for lane in self.lanes if lane.state == "running"]
        return running[0] if self.single_batch and running else None


@dataclass(frozen=True)
class StalledLane:
    """A lane that has not moved for a while although nothing postpones it."""

    run: RunId
    lane: int
    page: int
    generation: int

    @property
    def awaited(self) -> PageMessage:
        """The message that should be in flight."""
        return PageMessage(self.run, self.lane, self.page + 1, self.generation)


def lock_starts(connection: Connection) -> None:
    """Wait until no other transaction is starting a run, and block others until this transaction ends."""
    connection.execute(statement("SELECT pg_advisory_xact_lock(hashtextextended('backfill:start', 0))"))


def create(connection: Connection, new: NewRun, *, detail: Mapping[str, Any] | None = None) -> None:
    """Write a new run with its lanes and its first event; `detail` is added to the event."""
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
    """End a run that has nothing left to walk and return its final state; None if it continues, is halted or had ended.

    Locks the run before reading its lanes, so a concurrent resume comes either before or after.
    """
    lock_run(connection, run)
    for each in _ended(connection, [run]):
        new: RunState = "failed" if each.failed else "complete"
        if move_run(connection, run, new, by="finisher", reason=each.reason):
            return new
    return None


def unended(connection: Connection) -> list[RunId]:
    """Return running runs that have nothing left to walk: the process that should have finished them died."""
    return [RunId(each.id) for each in _ended(connection, running(connection))]


def _ended(connection: Connection, runs: Sequence[RunId]) -> Sequence[Row[Any]]:
    return connection.execute(sql_file("ended"), {"runs": list(runs)}).all()


def resume(
    connection: Connection, run: RunId, lanes: Sequence[Lane], *, single_batch: bool, lost_lanes: Sequence[int]
) -> list[Lane]:
    """Set a run to running, reseed its unfinished lanes, and return them.

    Args:
        connection: in a transaction that has locked all the run's lanes first, and then the run.
        run: the run; if its state doesn't allow a resume, nothing changes.
        lanes: all its lanes.
        single_batch: whether only the first unfinished lane is reseeded and may move.
        lost_lanes: the lanes whose cursors Redis had lost, for the event.
    """
    left = [lane for lane in lanes if lane.state in UNFINISHED_LANES]
    seeded = left[:1] if single_batch else left
    if not move_run(connection, run, "running", by="operator", detail={"lost_lanes": list(lost_lanes)}):
        return []
    connection.execute(
        statement("UPDATE backfill.run SET single_batch = :single, batch_lane = :batch_lane WHERE id = :run"),
        {"run": run, "single": single_batch, "batch_lane": seeded[0].number if single_batch and seeded else None},
    )
    return move_lanes(connection, run, seeded, "running", by="operator")


def reseed(connection: Connection, run: RunId, lanes: Sequence[int]) -> list[Lane]:
    """Start a new chain in these lanes of a running run, and return the lanes that had not ended."""
    return move_lanes(connection, run, lock_lanes(connection, run, lanes), "running", by="page")


def revive(connection: Connection, stalled: StalledLane) -> Lane | None:
    """Start a new chain in a stalled lane and return it; None if it moved or ended, or its run isn't running."""
    locked = [
        lane
        for lane in lock_lanes(connection, stalled.run, [stalled.lane])
        if (lane.generation, lane.page) == (stalled.generation, stalled.page)
    ]
    detail = {"page": stalled.page, "reason": "its task was lost"}
    return next(iter(move_lanes(connection, stalled.run, locked, "running", by="watchdog", detail=detail)), None)


def tune(
    connection: Connection, run: RunId, changes: Mapping[str, Any], *, defaults: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Change a run's parameters, record an event, and return the old and new value of each changed one.

    The caller must have locked the run. `defaults` has the values of options that are newer than the run. Pages in
    flight finish with the old values; the next ones use the new.
    """
    query = statement("SELECT parameters FROM backfill.run WHERE id = :run")
    own = {**defaults, **connection.execute(query, {"run": run}).scalar_one()}
    changed = {name: (own[name], new) for name, new in changes.items() if own[name] != new}
    if changed:
        connection.execute(
            statement("UPDATE backfill.run SET parameters = parameters || CAST(:new AS jsonb) WHERE id = :run"),
            {"run": run, "new": as_json({name: new for name, (_, new) in changed.items()})},
        )
        note(connection, run, "tuned", {name: list(both) for name, both in changed.items()}, who=who())
    return changed


def stalled(connection: Connection, seconds: float) -> list[StalledLane]:
    """Return the lanes that have not moved for this many seconds although the ledger knows of no reason to wait."""
    rows = connection.execute(sql_file("stalled"), {"seconds": seconds})
    return [StalledLane(RunId(row.run_id), row.number, row.page, row.generation) for row in rows]


def running(connection: Connection) -> list[RunId]:
    """Return the running runs, oldest first."""
    query = statement("SELECT id FROM backfill.run WHERE state = 'running' ORDER BY started_at, id")
    return [RunId(each) for each in connection.execute(query).scalars()]
