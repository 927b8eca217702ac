"""State transitions in the ledger: only `move_run` changes a run's state, and only `move_lanes` a lane's.

Both are a compare-and-set under the row's lock: a transition that `states` doesn't list changes nothing. Both write the
event, and set the reason and the times that belong to the new state.

Lock order: a page locks its lane and then, if it needs it, its run. Code that needs both follows this order, and locks
several lanes by number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from backfill_tasks.engine import states
from backfill_tasks.engine.database import statement
from backfill_tasks.engine.ledger.rows import lane_of, note, sql_file, who
from backfill_tasks.engine.model import Lane, RunId
from backfill_tasks.engine.states import Actor, LaneState, RunState


def lock_run(connection: Connection, run: RunId) -> RunState | None:
    """Lock a run until the transaction ends and return its state; None if there is no such run."""
    query = statement("SELECT state FROM backfill.run WHERE id = :run FOR NO KEY UPDATE")
    state: RunState | None = connection.execute(query, {"run": run}).scalar_one_or_none()
    return state


def lock_lanes(connection: Connection, run: RunId, numbers: Sequence[int] | None = None) -> list[Lane]:
    """Lock these lanes of a run (None: all) until the transaction ends, and return them by number."""
    rows = connection.execute(
        statement(
            "SELECT * FROM backfill.lane WHERE run_id = :run"
            " AND (CAST(:numbers AS integer[]) IS NULL OR number = ANY (:numbers))"
            " ORDER BY number FOR NO KEY UPDATE"
        ),
        {"run": run, "numbers": None if numbers is None else list(numbers)},
    )
    return [lane_of(row) for row in rows]


def move_run(
    connection: Connection,
    run: RunId,
    new: RunState,
    *,
    by: Actor,
    reason: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> bool:
    """Move a run to a state and record the event, with `detail` added to the states and the reason.

    Return False and change nothing if this actor may not make this transition from the run's current state.
    """
    old = lock_run(connection, run)
    move = None if old is None else states.transition(states.RUN, old, new, by)
    if move is None:
        return False
    connection.execute(
        statement(
            "UPDATE backfill.run SET state = :new, reason = :reason,"
            " finished_at = CASE WHEN :ended THEN date_trunc('milliseconds', now()) END WHERE id = :run"
        ),
        {"run": run, "new": new, "reason": reason, "ended": new in states.ENDED},
    )
    if move.event is not None:
        note(connection, run, move.event, {"old": old, "new": new, "reason": reason, **(detail or {})}, who=who())
    return True


def move_lanes(
    connection: Connection,
    run: RunId,
    lanes: Sequence[Lane],
    new: LaneState,
    *,
    by: Actor,
    reason: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> list[Lane]:
    """Move lanes to a state, record events with `detail`, and return the moved lanes. The caller must have locked them.

    A lane stays as it is if this actor may not make the transition from the lane's state or in its run's state. A lane
    that moves to `running` is reseeded: its generation is incremented, so tasks of the older chain are no-ops.
    """
    rows = connection.execute(
        sql_file("move_lanes"),
        {
            "run": run,
            "lanes": [lane.number for lane in lanes],
            "new": new,
            "reason": reason,
            "from": list(states.sources(states.LANE, new, by)),
            "run_states": list(states.RUN_STATES_FOR[new]),
            "reseeds": new == "running",
            # A reseed by the watchdog isn't progress: the lane has been still since it lost its task.
            "moves": new == "running" and by != "watchdog",
        },
    )
    old = {lane.number: lane.state for lane in lanes}
    moved = sorted((lane_of(row) for row in rows), key=lambda lane: lane.number)
    for lane in moved:
        move = states.transition(states.LANE, old[lane.number], new, by)
        if move is not None and move.event is not None:
            note(connection, run, move.event, {"lane": lane.number, **(detail or {})}, who=who())
    return moved
