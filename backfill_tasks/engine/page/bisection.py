"""Bisection: halve a failing page until the items that fail on their own are found, and quarantine them."""

from collections import Counter
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.contract import Backfill, ItemsFailed, PageContext, RowChanged
from backfill_tasks.engine.database import is_foreign_key_violation, kind, reason
from backfill_tasks.engine.model import Bounds, PageResult, Quarantined, Window
from backfill_tasks.engine.refusal import refusal

#: How many times a stretch is attempted before it is halved, if the host changes one of its rows meanwhile.
_RACES = 3


def is_of_an_item(error: DBAPIError) -> bool:
    """Return whether an item of the page causes the error. Any other error would fail a smaller page, too."""
    return kind(error) == "item"


def failed(item: str, error: DBAPIError | RowChanged | ItemsFailed) -> Quarantined:
    """Return an item that failed on its own as a quarantined item, with the part of its error that may be kept."""
    if isinstance(error, ItemsFailed):
        return Quarantined(item, str(error))
    if isinstance(error, RowChanged):
        return Quarantined(item, "the host keeps changing its row")
    return Quarantined(item, reason(error), refusal(error.orig))


@dataclass(frozen=True)
class Bisection:
    """Does a page in savepoints of the caller's transaction. `quarantined`: the items that failed, in key order."""

    connection: Connection
    backfill: Backfill
    quarantined: list[Quarantined] = field(default_factory=list)

    def do(self, window: Window, context: PageContext) -> PageResult:
        """Do a stretch: whole if it succeeds, else in halves, down to single items.

        Raises:
            DBAPIError: no item causes it, so no smaller stretch helps.
            RowChanged: the host keeps changing the row of a single item.
        """
        done = self._whole(window, context)
        if isinstance(done, PageResult):
            return done
        if window.limit > 1:
            return self._in_halves(window, context)
        if isinstance(done, RowChanged):
            raise done
        return self._without_the_item(window, context, done)

    def _whole(self, window: Window, context: PageContext) -> PageResult | RowChanged | ItemsFailed | DBAPIError:
        """Return the result of the stretch, or the error that fails it as a whole."""
        error: RowChanged | DBAPIError = RowChanged()
        for _ in range(_RACES):
            try:
                with self.connection.begin_nested():
                    return self.backfill.page(self.connection, window, context)
            except RowChanged as raced:
                error = raced
            except ItemsFailed as unhandled:
                return unhandled
            except DBAPIError as refused:
                if not is_of_an_item(refused):
                    raise
                error = refused
                if not is_foreign_key_violation(refused):  # else retry: the referenced row may have been deleted
                    break
        return error

    def _in_halves(self, window: Window, context: PageContext) -> PageResult:
        half = window.limit // 2
        left = self.do(replace(window, limit=half), context)
        if left.cursor == window.bounds.upper:
            return left
        rest = replace(window, bounds=Bounds(left.cursor, window.bounds.upper), limit=window.limit - half)
        onward = replace(context, ordinal=context.ordinal + left.numbered, due_at=left.due_at or context.due_at)
        right = self.do(rest, onward)
        counts = Counter(left.counts)
        counts.update(right.counts)
        return PageResult(
            right.cursor,
            counts,
            left.numbered + right.numbered,
            right.due_at or left.due_at,
            (*left.enqueued, *right.enqueued),
        )

    def _without_the_item(self, window: Window, context: PageContext, error: ItemsFailed | DBAPIError) -> PageResult:
        """Pass the only item of a failing stretch and quarantine it, unless it is no longer eligible."""
        found = self.backfill.dry_run(self.connection, window, context)
        if not found.counts["read"]:  # the item is gone or no longer needs anything
            return PageResult(found.cursor, {"read": 0})
        self.quarantined.append(failed(found.cursor, error))
        return PageResult(found.cursor, {"read": 1, "quarantined": 1})
