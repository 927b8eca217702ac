"""Which lanes need a reason, and how a run gets the reasons that were found for it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from backfill_tasks.engine.model import Lane, Run

if TYPE_CHECKING:
    from backfill_tasks.diagnosis.facts import Key
    from backfill_tasks.diagnosis.rules import Reason

#: A lane that has moved within this many seconds isn't diagnosed; one that has done no page yet always is.
_MOVES_SECONDS = 3.0


def needs_reason(run: Run, lane: Lane) -> bool:
    """Return whether a lane doesn't move, for whatever reason."""
    if run.mode != "apply" or lane.state == "done":
        return False
    still = run.still_seconds(lane) > _MOVES_SECONDS
    return still or not lane.page or lane.reason is not None or run.state != "running"


def explained(run: Run, seen: Run, reasons: Mapping["Key", "Reason"]) -> Run:
    """Return the run with the reasons in its lanes, except lanes that have moved since the run was `seen`."""
    still = {lane.number for lane, before in zip(run.lanes, seen.lanes, strict=False) if _is_unmoved(lane, before)}
    found = {number: reasons.get((run.id, number)) for number in still} if run.state == seen.state else {}
    return replace(run, lanes=tuple(_explained(lane, found.get(lane.number)) for lane in run.lanes))


def _is_unmoved(lane: Lane, before: Lane) -> bool:
    """Return whether a lane has done no page since, and the ledger has no newer reason. Reseeding is not a move."""
    return (lane.page, lane.state) == (before.page, before.state) and lane.reason in {None, before.reason}


def _explained(lane: Lane, reason: "Reason | None") -> Lane:
    return lane if reason is None else replace(lane, reason=reason.text, reason_kind=reason.kind)
