"""The page's own statement: how far it may look, and whether it is done whole or in parts."""

from dataclasses import replace

from sqlalchemy import Connection

from backfill_tasks.engine.contract import Backfill, PageContext
from backfill_tasks.engine.model import Bounds, PageResult, Quarantined, Window
from backfill_tasks.engine.page.bisection import Bisection

#: The most rows that a page looks at to find its items. An index scan of 5,000 rows takes some 10 to 30 ms from memory,
#: so a page of a sparse table stays short, and 2,000,000 rows without an eligible one are 400 pages.
PAGE_ROWS = 5_000

#: The fewest rows that a page looks at, however small it is: a lane must get on.
_LEAST_ROWS = 50


def window(bounds: Bounds, *, items: int, size: int, limit: int) -> Window:
    """Return what a page may read of the stretch that its lane has left.

    A smaller page looks at fewer rows in proportion, so that it takes less time on a sparse table too.

    Args:
        bounds: the stretch.
        items: the most items that the page may have, as it was admitted.
        size: how many it would have had.
        limit: how many a page of the run's may have.
    """
    return Window(bounds, items, min(PAGE_ROWS, max(_LEAST_ROWS, PAGE_ROWS * size // limit)))


def run(
    connection: Connection, backfill: Backfill, page: Window, context: PageContext, *, in_parts: bool
) -> tuple[PageResult, list[Quarantined]]:
    """Do a page, and return what it did and the items that failed on their own.

    Args:
        connection: in the page's transaction.
        backfill: whose page it is.
        page: what it may read.
        context: what it needs to know of its run.
        in_parts: quarantine the items that fail; otherwise the first error ends the page.

    Raises:
        DBAPIError, RowChanged: the page can't be done now; the caller rolls back.
    """
    if not in_parts:
        return backfill.page(connection, page, context), []
    end = backfill.dry_run(connection, page, context).cursor
    bisection = Bisection(connection, backfill)
    exact = replace(page, bounds=Bounds(page.bounds.lower, end))
    return bisection.do(exact, context), bisection.quarantined
