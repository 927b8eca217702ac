"""How long pages take: a histogram that grows with each scrape."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

from backfill_tasks.engine.ledger import TimedPage, Watched
from backfill_tasks.engine.model import RunId

#: The upper bounds of the histogram's buckets, in seconds. A page should take 0.2 s.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)


@dataclass
class PageTimes:
    """A histogram of page durations that counts each page once, from the first call of `behind` on.

    Runs that had started before that call are counted from the page that they were at then.
    """

    _counts: dict[str, list[int]] = field(default_factory=dict)
    _sums: dict[str, float] = field(default_factory=dict)
    _passed: dict[tuple[RunId, int], int] = field(default_factory=dict)
    _backfills: dict[RunId, str] = field(default_factory=dict)
    _since: datetime | None = None

    def behind(self, watched: Watched) -> Mapping[tuple[RunId, int], int]:
        """Return the lanes that have pages not counted yet, each with the number of the last one counted."""
        self._since = self._since or watched.seen_at
        known = self._passed
        self._backfills, self._passed = {run.id: run.backfill for run in watched.runs}, {}
        found = {}
        for run in watched.runs:
            for lane in run.lanes:
                key = run.id, lane.number
                self._passed[key] = known.get(key, 0 if run.started_at > self._since else lane.page)
                if lane.page > self._passed[key]:
                    found[key] = self._passed[key]
        return found

    def count(self, pages: Iterable[TimedPage]) -> None:
        """Count pages of the lanes that `behind` returned, in the order of their numbers."""
        for page in pages:
            self._passed[page.run, page.lane] = page.number
            self._add(self._backfills[page.run], page.seconds)

    def _add(self, backfill: str, seconds: float) -> None:
        counts = self._counts.setdefault(backfill, [0] * (len(BUCKETS) + 1))
        counts[bisect_left(BUCKETS, seconds)] += 1
        self._sums[backfill] = self._sums.get(backfill, 0.0) + seconds

    def histograms(self) -> dict[str, tuple[list[int], float]]:
        """Return, for each backfill, the cumulative counts for BUCKETS and then the total; and the sum of seconds."""
        return {name: (list(accumulate(counts)), self._sums[name]) for name, counts in self._counts.items()}
