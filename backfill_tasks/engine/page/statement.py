"""The page's own statement: how many rows it may scan, and whether it is done whole or in parts."""

from dataclasses import replace

from sqlalchemy import Connection

from backfill_tasks.engine.contract import Backfill, PageContext
from backfill_tasks.engine.model import Bounds, PageResult, Quarantined, Window
from backfill_tasks.engine.page.bisection import Bisection

#: The most rows a page scans to find its items. An index scan of 5,000 rows takes some 10 to 30 ms from memory, so a
#: page of a sparse table stays short, and 2,000,000 rows without an eligible one take 400 pages.
PAGE_ROWS = 5_000

#: The fewest rows a page may scan, however small the page is: the lane must make progress.
_LEAST_ROWS = 50


def window(bounds: Bounds, *, items: int, size: int, limit: int) -> Window:
    """Return the window that a page may read of its lane's remaining stretch.

    A smaller page scans proportionally fewer rows, so it is faster on a sparse table, too.

    Args:
        bounds: the remaining stretch.
        items: the most items the page may have, as admitted.
        size: the page size before admission.
        limit: the run's page size.
    """
    return Window(bounds, items, min(PAGE_ROWS, max(_LEAST_ROWS, PAGE_ROWS * size // limit)))


def run(
    connection: Connection, backfill: Backfill, page: Window, context: PageContext, *, in_parts: bool
) -> tuple[PageResult, list[Quarantined]]:
    """Do a page, and return its result and the items that failed on their own.

    Args:
        connection: in the page's transaction.
        backfill: the backfill that does the page.
        page: the window it may read.
        context: what it needs to know about its run.
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
