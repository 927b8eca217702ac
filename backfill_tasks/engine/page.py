"""One page, in one short transaction: the fence, the backfill's own statement, the ledger's row."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import ledger
from backfill_tasks.engine.backfill import Backfill, PageContext, Raced
from backfill_tasks.engine.database import is_foreign_key_violation, is_permanent, is_transient, reason
from backfill_tasks.engine.live import LiveCursors
from backfill_tasks.engine.model import Bounds, Lane, PageMessage, PageResult, Quarantined, Window

#: The most rows that a page looks at to find its items. An index scan of 5,000 rows takes some 10 to 30 ms from memory,
#: so a page of a sparse table stays short, and 2,000,000 rows without an eligible one are 400 pages.
PAGE_ROWS = 5_000

#: How often a stretch is asked for again at once when the host changed a row under it, before it is cut in two.
_RACES = 3

#: A page that has begun so often without an end has ended its worker so often: it is not tried again.
MOST_ATTEMPTS = 5

Refusal = Literal["superseded", "duplicate", "held", "unknown", "deadly"]


@dataclass(frozen=True)
class Committed:
    """The page is in the database, once and for good."""

    result: PageResult
    quarantined: int
    lane_done: bool
    run_goes_on: bool
    delay_ms: int


@dataclass(frozen=True)
class Refused:
    """The page was not done, and nothing was changed.

    `superseded`: a newer chain has the lane. `duplicate`: the page was committed before. `held`: the run is not
    running, or the lane has ended. `unknown`: the ledger has no such page to do. `deadly`: the page has ended its
    worker too often.
    """

    why: Refusal
    lane: Lane | None = None


@dataclass(frozen=True)
class Pages:
    """Does pages. Times in milliseconds."""

    engine: Engine
    live: LiveCursors
    backfills: Mapping[str, Backfill]
    lock_ms: int
    statement_ms: int

    def do(self, message: PageMessage) -> Committed | Refused:
        """Do a page and commit it, exactly once however often and by however many this is called at a time.

        Items that fail on their own are quarantined and the others go through.

        Raises:
            DBAPIError: passing trouble, or an error that no smaller page can cure; nothing was changed.
            Raced: the host keeps changing the page's rows; nothing was changed.
        """
        try:
            return self._attempt(message, careful=False)
        except Raced:
            return self._attempt(message, careful=True)
        except DBAPIError as error:
            if _belongs_to_the_page(error):
                raise
            return self._attempt(message, careful=True)

    def _attempt(self, message: PageMessage, *, careful: bool) -> Committed | Refused:
        with self.engine.begin() as connection:
            fence = ledger.fence(connection, message, lock_ms=self.lock_ms, statement_ms=self.statement_ms)
            if fence is None:
                return Refused("unknown")
            refusal = _refusal(fence, message)
            if refusal is not None:
                return Refused(refusal, fence.lane)
            if fence.single_batch and ledger.hold_state(connection, message.run) != "running":
                return Refused("held", fence.lane)
            if not careful and self.live.begin(message) > MOST_ATTEMPTS:
                return Refused("deadly", fence.lane)
            parameters = fence.parameters
            backfill = self.backfills[parameters.backfill]
            numbers = backfill.numbers(parameters.options)
            ordinal = ledger.hold_ordinal(connection, message.run) if numbers else 0
            context = PageContext(parameters.options, fence.started_at, ordinal)
            window = Window(fence.lane.left, parameters.limit, PAGE_ROWS)
            quarantined: list[Quarantined] = []
            if careful:
                end = backfill.survey(connection, window, context).cursor
                exact = replace(window, bounds=Bounds(window.bounds.lower, end))
                result = _bisect(connection, backfill, exact, context, quarantined)
            else:
                result = backfill.page(connection, window, context)
            ledger.record(connection, message, fence, result, quarantined)
        lane_done = result.cursor == fence.lane.bounds.upper
        return Committed(
            result=result,
            quarantined=len(quarantined),
            lane_done=lane_done,
            run_goes_on=not (lane_done or fence.single_batch),
            delay_ms=parameters.page_delay_ms,
        )


def _refusal(fence: ledger.Fence, message: PageMessage) -> Refusal | None:
    lane = fence.lane
    if lane.generation != message.generation:
        return "superseded" if lane.generation > message.generation else "unknown"
    if fence.run_state != "running":
        return "held"
    if lane.page >= message.page:
        return "duplicate"
    if lane.state != "running":
        return "held"
    return None if lane.page + 1 == message.page else "unknown"


def _belongs_to_the_page(error: DBAPIError) -> bool:
    """Whether an error is no single item's: a smaller page would meet it too."""
    return is_transient(error) or is_permanent(error)


def _bisect(
    connection: Connection,
    backfill: Backfill,
    window: Window,
    context: PageContext,
    quarantined: list[Quarantined],
) -> PageResult:
    """Do a stretch whose page failed: whole if it goes now, else in halves, down to the items that fail alone."""
    error: Raced | DBAPIError | None = None
    for _ in range(_RACES):
        try:
            with connection.begin_nested():
                return backfill.page(connection, window, context)
        except Raced as raced:
            error = raced
        except DBAPIError as refused:
            if _belongs_to_the_page(refused):
                raise
            error = refused
            if not is_foreign_key_violation(refused):  # what was referred to may have gone since: look again
                break
    if window.limit == 1:
        if isinstance(error, Raced):
            raise error
        return _quarantine(connection, backfill, window, context, quarantined, error)
    half = window.limit // 2
    left = _bisect(connection, backfill, replace(window, limit=half), context, quarantined)
    if left.cursor == window.bounds.upper:
        return left
    rest = replace(window, bounds=Bounds(left.cursor, window.bounds.upper), limit=window.limit - half)
    onward = replace(context, ordinal=context.ordinal + left.numbered)
    right = _bisect(connection, backfill, rest, onward, quarantined)
    counts = Counter(left.counts)
    counts.update(right.counts)
    return PageResult(right.cursor, counts, left.numbered + right.numbered)


def _quarantine(
    connection: Connection,
    backfill: Backfill,
    window: Window,
    context: PageContext,
    quarantined: list[Quarantined],
    error: DBAPIError | None,
) -> PageResult:
    """Pass the one item that is left of a failing stretch, and keep its error."""
    found = backfill.survey(connection, window, context)
    if found.counts["read"] and error is not None:
        quarantined.append(Quarantined(found.cursor, reason(error)))
        return PageResult(found.cursor, {"read": 1, "quarantined": 1})
    return PageResult(found.cursor, {"read": 0})
