"""Bisection: a failing page is halved until the items that fail on their own are found; they are quarantined."""

from collections import Counter
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.contract import Backfill, ItemsFailed, PageContext, RowChanged
from backfill_tasks.engine.database import is_foreign_key_violation, kind, reason
from backfill_tasks.engine.model import Bounds, PageResult, Quarantined, Window
from backfill_tasks.engine.refusal import refusal

#: How often a stretch is asked for again at once when the host changed a row under it, before it is cut in two.
_RACES = 3


def is_of_an_item(error: DBAPIError) -> bool:
    """Return whether one of the page's items causes an error. Any other error, a smaller page would meet too."""
    return kind(error) == "item"


def failed(item: str, error: DBAPIError | RowChanged | ItemsFailed) -> Quarantined:
    """Return an item that failed on its own, with what may be kept of its error."""
    if isinstance(error, ItemsFailed):
        return Quarantined(item, str(error))
    if isinstance(error, RowChanged):
        return Quarantined(item, "the host keeps changing its row")
    return Quarantined(item, reason(error), refusal(error.orig))


@dataclass(frozen=True)
class Bisection:
    """Does a page in savepoints of the caller's transaction. `quarantined`: the items that failed, in their order."""

    connection: Connection
    backfill: Backfill
    quarantined: list[Quarantined] = field(default_factory=list)

    def do(self, window: Window, context: PageContext) -> PageResult:
        """Do a stretch: whole if it goes through, else in halves, down to single items.

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
        """Return what the stretch did, or why it fails for good."""
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
                if not is_foreign_key_violation(refused):  # the row it refers to may have gone since: look again
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
        """Pass the one item that is left of a failing stretch, and keep its error."""
        found = self.backfill.dry_run(self.connection, window, context)
        if not found.counts["read"]:  # it is gone, or needs nothing any more
            return PageResult(found.cursor, {"read": 0})
        self.quarantined.append(failed(found.cursor, error))
        return PageResult(found.cursor, {"read": 1, "quarantined": 1})
