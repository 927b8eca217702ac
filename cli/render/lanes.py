"""A run's lanes, and the reasons of those that wait, have stopped or don't move."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from backfill_tasks.cli.render.text import duration, shortened, wrapped
from backfill_tasks.engine.model import Lane, Run

#: A lane that hasn't moved for this many seconds is shown as still, with its reason.
STILL_SECONDS = 5.0

#: The most characters of a reason that are shown, and of a cursor.
_LONGEST_REASON, _LONGEST_CURSOR = 600, 43


def lanes_in_words(number: int) -> str:
    """Return "1 lane" or "2 lanes"."""
    return "1 lane" if number == 1 else f"{number} lanes"


def is_still(run: Run, lane: Lane) -> bool:
    """Return whether a lane of a running run hasn't moved for more than STILL_SECONDS."""
    return run.state == lane.state == "running" and run.still_seconds(lane) > STILL_SECONDS


def lane_lines(run: Run) -> list[str]:
    """Return one line per lane, with the reason below lanes that wait or have stopped; neighbours share a reason."""
    lines = ["  lane  state     pages       read  cursor"]
    for alike in _by_reason(run.lanes):
        lines += [_lane(run, lane) for lane in alike]
        reason, kind = alike[0].reason, alike[0].reason_kind
        # The first line of the summary already says that the run is paused.
        if reason and kind != run.state:
            which = f"{_numbers(alike)}: " if len(alike) > 1 else ""
            lines.append(wrapped(f"{which}{shortened(reason, _LONGEST_REASON)}", indent=8))
    return lines


def trouble_lines(run: Run) -> list[str]:
    """Return the lanes that wait, have stopped or don't move, each with its time and its reason. Empty if all move."""
    troubled = [lane for lane in run.lanes if lane.reason or is_still(run, lane)]
    return [_trouble(run, alike) for alike in _by_reason(troubled)]


def _lane(run: Run, lane: Lane) -> str:
    cursor = shortened(lane.cursor or "-", _LONGEST_CURSOR)
    return f"  {lane.number:>4}  {run.state_of(lane):<9}{lane.page:>6,}{lane.counts.get('read', 0):>11,}  {cursor}"


def _trouble(run: Run, alike: Sequence[Lane]) -> str:
    still = max((run.still_seconds(lane) for lane in alike if is_still(run, lane)), default=None)
    since = "" if still is None else f", no page for {duration(still)}"
    reason = shortened(alike[0].reason or "looking for the reason", _LONGEST_REASON)
    return wrapped(f"{_numbers(alike)}{since}: {reason}", indent=4, first="  ")


def _by_reason(lanes: Iterable[Lane]) -> list[list[Lane]]:
    """Group neighbouring lanes that have the same reason, or none."""
    return [
        [lane for _, lane in alike]
        for _, alike in groupby(enumerate(lanes), key=lambda each: (each[1].reason, each[1].number - each[0]))
    ]


def _numbers(alike: Sequence[Lane]) -> str:
    """Return "lane 3" or "lanes 3 to 5"."""
    first, last = alike[0].number, alike[-1].number
    return f"lane {first}" if first == last else f"lanes {first} to {last}"
