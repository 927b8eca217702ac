"""One page, in one short transaction: the fence, the backfill's own statement, the ledger's row."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import batch, ledger, schema
from backfill_tasks.engine.admission.gate import Denied, Gate
from backfill_tasks.engine.admission.page_size import next_size
from backfill_tasks.engine.contract import Backfill, PageContext, RowChanged
from backfill_tasks.engine.cursors import LiveCursors
from backfill_tasks.engine.database import is_foreign_key_violation, is_permanent, is_transient, reason, sqlstate
from backfill_tasks.engine.model import Bounds, Lane, PageMessage, PageResult, Quarantined, Window
from backfill_tasks.engine.refusal import refusal
from backfill_tasks.errors import LedgerError

#: The most rows that a page looks at to find its items. An index scan of 5,000 rows takes some 10 to 30 ms from memory,
#: so a page of a sparse table stays short, and 2,000,000 rows without an eligible one are 400 pages.
PAGE_ROWS = 5_000

#: How often a stretch is asked for again at once when the host changed a row under it, before it is cut in two.
_RACES = 3

#: A page that has begun so often without an end has ended its worker so often: it is not tried again.
MOST_ATTEMPTS = 5

_INSUFFICIENT_PRIVILEGE = "42501"

Refusal = Literal["superseded", "duplicate", "held", "unknown", "poison"]

#: A smaller page looks at fewer rows too, so that it is a shorter one on a sparse table as well; but never at fewer
#: than so many: a lane must get on.
_LEAST_ROWS = 50


@dataclass(frozen=True)
class Committed:
    """The page is in the database, once and for good.

    `next_lane`: where a single batch goes on, if not in this lane.
    """

    result: PageResult
    quarantined: int
    lane_done: bool
    run_goes_on: bool
    delay_ms: int
    next_lane: int | None = None


@dataclass(frozen=True)
class Refused:
    """The page was not done, and nothing was changed.

    `superseded`: a newer chain has the lane. `duplicate`: the page was committed before. `held`: the run is not
    running, or the lane has ended. `unknown`: the ledger has no such page to do. `poison`: the page has ended its
    worker too often.
    """

    why: Refusal
    lane: Lane | None = None


@dataclass(frozen=True)
class PutOff:
    """The page may not start now; `again` is to be sent in so many seconds."""

    again: PageMessage
    seconds: float
    reason: str


@dataclass(frozen=True)
class Pages:
    """Does pages. Times in milliseconds; `wait_seconds` is how long a page waits before it asks for leave again."""

    engine: Engine
    live: LiveCursors
    backfills: Mapping[str, Backfill]
    gate: Gate
    lock_ms: int
    statement_ms: int
    wait_seconds: float

    def do(self, message: PageMessage) -> Committed | Refused | PutOff:
        """Do a page and commit it, exactly once however often and by however many this is called at a time.

        Items that fail on their own are quarantined and the others go through. A page that gets no leave is put off. So
        is one for which this role lacks a right, or from which row-level security hides rows: it goes on by itself when
        a DBA has mended that.

        Raises:
            DBAPIError: passing trouble, or an error that no smaller page can cure; nothing was changed.
            RowChanged: the host keeps changing the page's rows; nothing was changed.
        """
        try:
            return self._with_all_rights(message)
        except LedgerError as error:  # the ledger can't be read, nor told why the page waits
            return PutOff(message, self.wait_seconds, str(error))

    def _with_all_rights(self, message: PageMessage) -> Committed | Refused | PutOff:
        try:
            return self._whole_or_in_parts(message)
        except DBAPIError as error:
            put_off = self._put_off_for_rights(message) if sqlstate(error) == _INSUFFICIENT_PRIVILEGE else None
            if put_off is None:
                raise
            return put_off

    def _whole_or_in_parts(self, message: PageMessage) -> Committed | Refused | PutOff:
        try:
            return self._attempt(message, careful=False)
        except RowChanged:
            return self._attempt(message, careful=True)
        except DBAPIError as error:
            if _belongs_to_the_page(error):
                raise
            return self._attempt(message, careful=True)

    def _attempt(self, message: PageMessage, *, careful: bool) -> Committed | Refused | PutOff:
        with self.engine.begin() as connection:
            fence = ledger.fence(connection, message, lock_ms=self.lock_ms, statement_ms=self.statement_ms)
            if fence is None:
                schema.version(connection)  # a ledger whose rows are hidden is one that can't be read
                return Refused("unknown")
            refusal = _refusal(fence, message)
            if refusal is not None:
                return Refused(refusal, fence.lane)
            backfill = self.backfills.get(fence.parameters.backfill)
            if backfill is None:  # a worker that has not been upgraded yet; another may take it the next time
                why = f"a worker is too old for {fence.parameters.backfill}: upgrade all workers"
                return self._without_leave(connection, message, fence, Denied("wait", why, "old worker"))
            size = min(fence.lane.size or fence.parameters.limit, fence.parameters.limit)
            leave = self.gate.ask(connection, message.run, fence, backfill, size=size)
            if isinstance(leave, Denied):
                if careful:  # it has begun, and ends here in good order
                    self.live.reset_attempts(message)
                return self._without_leave(connection, message, fence, leave)
            if not careful and self.live.begin(message) > MOST_ATTEMPTS:
                return Refused("poison", fence.lane)
            began = time.monotonic()
            rows = min(PAGE_ROWS, max(_LEAST_ROWS, PAGE_ROWS * size // fence.parameters.limit))
            window = Window(fence.lane.left, leave.limit, rows)
            quarantined: list[Quarantined] = []
            if careful:
                end = backfill.dry_run(connection, window, leave.context).cursor
                exact = replace(window, bounds=Bounds(window.bounds.lower, end))
                result = _bisect(connection, backfill, exact, leave.context, quarantined)
            else:
                result = backfill.page(connection, window, leave.context)
            took = time.monotonic() - began
            following = next_size(
                size,
                limit=fence.parameters.limit,
                used=leave.limit,
                seconds=took,
                target_ms=fence.parameters.pace.target_page_ms,
            )
            # At its ceiling a lane has no size of its own: so a limit that is raised holds from the next page on.
            size_kept = following if following < fence.parameters.limit else None
            next_lane = ledger.record(connection, message, fence, result, quarantined, size=size_kept, seconds=took)
        lane_done = result.cursor == fence.lane.bounds.upper
        return Committed(
            result=result,
            quarantined=len(quarantined),
            lane_done=lane_done,
            run_goes_on=not (lane_done or (fence.single_batch and batch.ends_with(message.page, result.counts))),
            delay_ms=fence.parameters.page_delay_ms,
            next_lane=next_lane,
        )

    def _put_off_for_rights(self, message: PageMessage) -> Refused | PutOff | None:
        """Put a page off that the database refused, and say what its role lacks; None if that is nothing."""
        self.live.reset_attempts(message)
        with self.engine.begin() as connection:
            schema.require(connection)
            schema.require_rights(connection)
            fence = ledger.fence(connection, message, lock_ms=self.lock_ms, statement_ms=self.statement_ms)
            backfill = self.backfills.get(fence.parameters.backfill) if fence else None
            if fence is None or backfill is None or _refusal(fence, message) is not None:
                return None
            for lack in backfill.missing(connection, apply=True):
                why = Denied("wait", f"{lack.what}: {lack.fix}", "rights")
                return self._without_leave(connection, message, fence, why)
        return None

    def _without_leave(
        self, connection: Connection, message: PageMessage, fence: ledger.Fence, leave: Denied
    ) -> Refused | PutOff:
        match leave.why:
            case "wait":
                again = ledger.put_off(connection, message, self.wait_seconds, leave.kind, leave.reason)
                return PutOff(again, self.wait_seconds, leave.reason)
            case "budget":
                ledger.move_run(connection, message.run, "paused", by="page", reason=leave.reason)
        return Refused("held", fence.lane)


def _refusal(fence: ledger.Fence, message: PageMessage) -> Refusal | None:
    lane = fence.lane
    if lane.generation != message.generation:
        return "superseded" if lane.generation > message.generation else "unknown"
    if fence.run_state != "running" or fence.batch_lane not in (None, lane.number):
        return "held"
    if lane.page >= message.page or lane.waits > message.waits:
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
    error: RowChanged | DBAPIError | None = None
    for _ in range(_RACES):
        try:
            with connection.begin_nested():
                return backfill.page(connection, window, context)
        except RowChanged as raced:
            error = raced
        except DBAPIError as refused:
            if _belongs_to_the_page(refused):
                raise
            error = refused
            if not is_foreign_key_violation(refused):  # what was referred to may have gone since: look again
                break
    if window.limit == 1:
        if isinstance(error, RowChanged):
            raise error
        return _quarantine(connection, backfill, window, context, quarantined, error)
    half = window.limit // 2
    left = _bisect(connection, backfill, replace(window, limit=half), context, quarantined)
    if left.cursor == window.bounds.upper:
        return left
    rest = replace(window, bounds=Bounds(left.cursor, window.bounds.upper), limit=window.limit - half)
    onward = replace(context, ordinal=context.ordinal + left.numbered, due_at=left.due_at or context.due_at)
    right = _bisect(connection, backfill, rest, onward, quarantined)
    counts = Counter(left.counts)
    counts.update(right.counts)
    return PageResult(
        right.cursor,
        counts,
        left.numbered + right.numbered,
        right.due_at or left.due_at,
        (*left.enqueued, *right.enqueued),
    )


def _quarantine(
    connection: Connection,
    backfill: Backfill,
    window: Window,
    context: PageContext,
    quarantined: list[Quarantined],
    error: DBAPIError | None,
) -> PageResult:
    """Pass the one item that is left of a failing stretch, and keep its error."""
    found = backfill.dry_run(connection, window, context)
    if found.counts["read"] and error is not None:
        quarantined.append(Quarantined(found.cursor, reason(error), refusal(error.orig)))
        return PageResult(found.cursor, {"read": 1, "quarantined": 1})
    return PageResult(found.cursor, {"read": 0})
