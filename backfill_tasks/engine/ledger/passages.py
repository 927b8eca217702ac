"""What the ledger records of one item: the lane and the page of each run whose range contains it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row

from backfill_tasks.engine.database import statement
from backfill_tasks.engine.explanation import Passage, PassedPage, Place
from backfill_tasks.engine.ledger.rows import sql_file
from backfill_tasks.engine.model import RunId
from backfill_tasks.options import Parameters, Values

#: Returns for each of these keys whether the item isn't after it, in the order of its table's key.
Reached = Callable[[Sequence[str]], Sequence[bool]]

#: How many pages of a lane are looked at per round trip: 10 find one page among 14,000 in four. More cost more than the
#: round trips that they save.
_PROBES = 10


@dataclass
class _Search:
    """The search for the page of a lane that passed the item: after page `low` and up to page `high`."""

    run: RunId
    lane: int
    low: int
    high: int
    found: bool = True

    @property
    def probes(self) -> list[int]:
        """The pages to look at next; none if the page is found."""
        between = self.high - self.low
        step = max(1.0, between / (_PROBES + 1))
        numbers = {self.low + round(step * number) for number in range(1, _PROBES + 1)}
        return sorted(each for each in numbers if self.low < each < self.high) if self.found else []


def count_runs(connection: Connection, backfill: str) -> int:
    """Return the number of a backfill's runs."""
    query = statement("SELECT count(*) FROM backfill.run WHERE backfill = :backfill")
    return int(connection.execute(query, {"backfill": backfill}).scalar_one())


def passages(
    connection: Connection,
    backfill: str,
    item: str,
    reached: Reached,
    with_defaults: Callable[[Values], Values],
    *,
    most: int,
) -> list[Passage]:
    """Return what the newest `most` runs of a backfill have to do with an item, newest first.

    The page is found by its lane's key range: a few round trips for all runs together, however many pages there are.
    The transaction must have a single snapshot.
    """
    rows = connection.execute(sql_file("passages"), {"backfill": backfill, "item": item, "most": most}).all()
    isnt_after = _compared([key for row in rows for key in (row.lower_bound, row.upper_bound, row.cursor)], reached)
    runs = [list(of_run) for _, of_run in groupby(rows, key=lambda row: row.id)]
    placed = [(lanes, *_place(lanes, isnt_after)) for lanes in runs]
    searches = [
        _Search(RunId(lane.id), lane.number, 0, lane.page)
        for _, place, lane in placed
        if place == "passed" and lane is not None
    ]
    _find(connection, searches, reached)
    pages = _pages(connection, item, [each for each in searches if each.found])
    return [_passage(lanes[0], place, lane, pages.get(lanes[0].id), with_defaults) for lanes, place, lane in placed]


def _compared(keys: Sequence[str | None], reached: Reached) -> dict[str | None, bool]:
    distinct = list(dict.fromkeys(key for key in keys if key is not None))
    return {None: False, **dict(zip(distinct, reached(distinct) if distinct else (), strict=True))}


def _place(lanes: Sequence[Row[Any]], isnt_after: Mapping[str | None, bool]) -> tuple[Place, Row[Any] | None]:
    """Return where an item is, seen from a run with these lanes, and its lane."""
    real = [lane for lane in lanes if lane.number is not None]
    for lane in real:
        if isnt_after[lane.upper_bound] and not isnt_after[lane.lower_bound]:
            return ("passed" if isnt_after[lane.cursor] else "ahead"), lane
    if real and all(isnt_after[lane.lower_bound] for lane in real):
        return "before", None
    return ("between" if any(isnt_after[lane.upper_bound] for lane in real) else "beyond"), None


def _find(connection: Connection, searches: Sequence[_Search], reached: Reached) -> None:
    """Narrow all searches down to one page each."""
    while wanted := [(each, number) for each in searches for number in each.probes]:
        cursors = _cursors(connection, [(each.run, each.lane, number) for each, number in wanted])
        isnt_after = _compared(list(cursors.values()), reached)
        for each in {id(search): search for search, _ in wanted}.values():
            known = {number: cursors.get((each.run, each.lane, number)) for number in each.probes}
            each.found = None not in known.values()
            if each.found:
                each.low = max([each.low, *(number for number, key in known.items() if not isnt_after[key])])
                each.high = min([each.high, *(number for number, key in known.items() if isnt_after[key])])


def _cursors(connection: Connection, pages: Sequence[tuple[RunId, int, int]]) -> dict[tuple[RunId, int, int], str]:
    runs, lanes, numbers = zip(*pages, strict=True)
    values = {"runs": list(runs), "lanes": list(lanes), "pages": list(numbers)}
    rows = connection.execute(sql_file("page_cursors"), values)
    return {(RunId(row.run_id), row.lane, row.number): row.cursor for row in rows}


def _pages(connection: Connection, item: str, found: Sequence[_Search]) -> dict[str, PassedPage]:
    if not found:
        return {}
    values = {
        "item": item,
        "runs": [each.run for each in found],
        "lanes": [each.lane for each in found],
        "pages": [each.high for each in found],
    }
    return {
        row.run_id: PassedPage(
            row.number, row.at, row.seconds, row.counts, row.enqueued, row.released_at, tuple(row.retried)
        )
        for row in connection.execute(sql_file("passed_pages"), values)
    }


def _passage(
    run: Row[Any],
    place: Place,
    lane: Row[Any] | None,
    page: PassedPage | None,
    with_defaults: Callable[[Values], Values],
) -> Passage:
    parameters = Parameters.from_json(run.parameters)
    return Passage(
        run=RunId(run.id),
        state=run.run_state,
        reason=run.run_reason,
        options=with_defaults(parameters.options),
        cursor=parameters.cursor,
        started_at=run.started_at,
        place=place,
        page=page,
        error=run.error,
        **({} if lane is None else _lane(lane)),
    )


def _lane(lane: Row[Any]) -> dict[str, Any]:
    return {
        "lane": lane.number,
        "lane_state": lane.run_state if lane.state == "running" else lane.state,
        "lane_reason": lane.reason,
        "position": lane.lower_bound if lane.cursor is None else lane.cursor,
    }
