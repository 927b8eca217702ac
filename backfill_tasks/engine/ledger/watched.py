"""The runs worth watching, and the times of their new pages: bounded reads, however large the ledger is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row

from backfill_tasks.engine.ledger.rows import sql_file
from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.states import UNFINISHED, LaneState, RunState

#: How many runs are shown: the newest unfinished ones, and the newest of all.
_MOST_UNFINISHED, _NEWEST = 20, 10

#: How many new pages of a lane are read at a time; the rest are read the next time.
_MOST_PAGES = 1_000


@dataclass(frozen=True)
class WatchedLane:
    """A lane.

    `held`: its page is postponed, for a reason in the ledger. `idle`: for how many seconds it has not moved without
    being postponed; None if it isn't running.
    """

    number: int
    state: LaneState
    page: int
    generation: int
    counts: Mapping[str, int]
    held: bool
    idle: float | None


@dataclass(frozen=True)
class WatchedRun:
    """A run with its lanes, as of one moment."""

    id: RunId
    backfill: str
    state: RunState
    started_at: datetime
    finished_at: datetime | None
    expected: int | None
    lanes: Sequence[WatchedLane]

    @property
    def counts(self) -> Counter[str]:
        """Items by class, over all lanes."""
        total: Counter[str] = Counter()
        for lane in self.lanes:
            total.update(lane.counts)
        return total


@dataclass(frozen=True)
class Watched:
    """The watched runs in order of their starts. `seen_at`: the database's time."""

    seen_at: datetime
    runs: Sequence[WatchedRun] = ()


@dataclass(frozen=True)
class TimedPage:
    """A committed page and how many seconds it took."""

    run: RunId
    lane: int
    number: int
    seconds: float


def watched_runs(connection: Connection) -> list[WatchedRun]:
    """Return the newest unfinished runs and the newest of all, in order of their starts; their number is bounded."""
    rows = connection.execute(
        sql_file("metrics"), {"unfinished": list(UNFINISHED), "most_unfinished": _MOST_UNFINISHED, "newest": _NEWEST}
    ).all()
    return [_run(list(of_run)) for _, of_run in groupby(rows, key=lambda row: row.id)]


def pages_after(connection: Connection, passed: Mapping[tuple[RunId, int], int]) -> list[TimedPage]:
    """Return the pages of these lanes after these numbers, by lane: at most 1,000 of each."""
    if not passed:
        return []
    values = {
        "runs": [run for run, _ in passed],
        "lanes": [lane for _, lane in passed],
        "pages": list(passed.values()),
        "most": _MOST_PAGES,
    }
    rows = connection.execute(sql_file("new_pages"), values)
    return [TimedPage(RunId(row.run_id), row.lane, row.number, row.seconds) for row in rows]


def _run(rows: Sequence[Row[Any]]) -> WatchedRun:
    first = rows[0]
    lanes = [
        WatchedLane(row.number, row.state, row.page, row.generation, row.counts, row.held, row.idle)
        for row in rows
        if row.number is not None
    ]
    return WatchedRun(
        id=RunId(first.id),
        backfill=first.backfill,
        state=first.run_state,
        started_at=first.started_at,
        finished_at=first.finished_at,
        expected=first.expected,
        lanes=lanes,
    )
