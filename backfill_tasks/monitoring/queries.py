"""Ledger queries for monitoring: the runs worth watching, and how long pages take."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate, groupby
from typing import Any

from sqlalchemy import Connection, Row

from backfill_tasks.engine.database import statement
from backfill_tasks.engine.ledger.rows import sql_file
from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.states import UNFINISHED, LaneState, RunState

#: How many runs are shown: the newest unfinished ones, and the newest of all.
_MOST_UNFINISHED, _NEWEST = 20, 10

#: How many new pages of a lane are read at a time; the rest are read the next time.
_MOST_PAGES = 1_000

#: The upper bounds of the histogram's buckets, in seconds. A page should take 0.2 s.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)


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
    seen_at: datetime
    expected: int | None
    lanes: Sequence[WatchedLane]

    @property
    def counts(self) -> Counter[str]:
        """Items by class, over all lanes."""
        total: Counter[str] = Counter()
        for lane in self.lanes:
            total.update(lane.counts)
        return total


def watched_runs(connection: Connection) -> list[WatchedRun]:
    """Return the newest unfinished runs and the newest of all, in order of their starts; their number is bounded."""
    rows = connection.execute(
        sql_file("metrics"), {"unfinished": list(UNFINISHED), "most_unfinished": _MOST_UNFINISHED, "newest": _NEWEST}
    ).all()
    return [_run(list(of_run)) for _, of_run in groupby(rows, key=lambda row: row.id)]


@dataclass
class PageTimes:
    """A histogram of page durations that counts each page once, from the first call on.

    It reads only new pages, by key, so its cost doesn't depend on the number of pages in the ledger. Runs that had
    started before the first call are counted from the page that they were at then.
    """

    _counts: dict[str, list[int]] = field(default_factory=dict)
    _sums: dict[str, float] = field(default_factory=dict)
    _passed: dict[tuple[RunId, int], int] = field(default_factory=dict)
    _since: datetime | None = None

    def update(self, connection: Connection, runs: Iterable[WatchedRun]) -> None:
        """Count the new pages of these runs. Call it in the transaction that read them, or in a later one."""
        backfills: dict[RunId, str] = {}
        passed: dict[tuple[RunId, int], int] = {}
        behind: list[tuple[RunId, int]] = []
        self._since = self._since or connection.execute(statement("SELECT now()")).scalar_one()
        for run in runs:
            backfills[run.id] = run.backfill
            for lane in run.lanes:
                key = run.id, lane.number
                passed[key] = self._passed.get(key, 0 if run.started_at > self._since else lane.page)
                if lane.page > passed[key]:
                    behind.append(key)
        self._passed = passed
        for row in self._new_pages(connection, behind):
            self._passed[RunId(row.run_id), row.lane] = row.number
            self._add(backfills[RunId(row.run_id)], row.seconds)

    def _new_pages(self, connection: Connection, lanes: Sequence[tuple[RunId, int]]) -> Sequence[Row[Any]]:
        if not lanes:
            return []
        values = {
            "runs": [run for run, _ in lanes],
            "lanes": [lane for _, lane in lanes],
            "pages": [self._passed[key] for key in lanes],
            "most": _MOST_PAGES,
        }
        return connection.execute(sql_file("new_pages"), values).all()

    def _add(self, backfill: str, seconds: float) -> None:
        counts = self._counts.setdefault(backfill, [0] * (len(BUCKETS) + 1))
        counts[bisect_left(BUCKETS, seconds)] += 1
        self._sums[backfill] = self._sums.get(backfill, 0.0) + seconds

    def histograms(self) -> dict[str, tuple[list[int], float]]:
        """Return, for each backfill, the cumulative counts for BUCKETS and then the total; and the sum of seconds."""
        return {name: (list(accumulate(counts)), self._sums[name]) for name, counts in self._counts.items()}


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
        seen_at=first.seen_at,
        expected=first.expected,
        lanes=lanes,
    )
