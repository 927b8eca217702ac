"""How far a run has come whose items were not counted: by the share of its range of keys that it has walked."""

from collections.abc import Sequence
from uuid import UUID

from backfill_tasks.engine.model import Lane

#: Random UUIDs: they are spread evenly over their range.
_RANDOM = 4
_GREATEST = 2.0**128


def share_walked(lanes: Sequence[Lane]) -> float | None:
    """Return the share of the lanes' ranges that has been walked; None if a key isn't a random UUID.

    Other keys need not be spread evenly: ids that contain the time are dense where much happened.
    """
    walked = total = 0.0
    for lane in lanes:
        places = [_place(lane.bounds.lower), _place(lane.position), _place(lane.bounds.upper)]
        lower, position, upper = places
        if lower is None or position is None or upper is None or not lower <= position <= upper:
            return None
        walked += position - lower
        total += upper - lower
    return walked / total if total else None


def _place(key: str | None) -> float | None:
    """Return where a key is in the range of all UUIDs, from 0 to 1; None for other keys."""
    if key is None:
        return 0.0
    try:
        found = UUID(key)
    except ValueError:
        return None
    return found.int / _GREATEST if str(found) == key and found.version == _RANDOM else None
