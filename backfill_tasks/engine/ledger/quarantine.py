"""Quarantined items: kept, locked for a retry, released."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from backfill_tasks.engine.database import statement
from backfill_tasks.engine.encoding import as_json
from backfill_tasks.engine.ledger.rows import sql_file
from backfill_tasks.engine.model import Lane, PageMessage, PageResult, Quarantined, RunId

#: The longest error text kept of a quarantined item, in characters.
ERROR_LENGTH = 1_000


@dataclass(frozen=True)
class Place:
    """The page on which a quarantined item failed."""

    lane: int
    page: int


def quarantined(connection: Connection, run: RunId, *, most: int | None) -> list[Quarantined]:
    """Return the run's first `most` quarantined items (None: all), ordered by page."""
    rows = connection.execute(
        statement(
            "SELECT item, error FROM backfill.quarantine WHERE run_id = :run ORDER BY lane, page, item LIMIT :most"
        ),
        {"run": run, "most": most},
    )
    return [Quarantined(row.item, row.error) for row in rows]


def lock_quarantined(connection: Connection, run: RunId, item: str) -> Place | None:
    """Lock a quarantined item and return its place; None if it isn't in quarantine or is locked already.

    The lock lasts until the transaction ends.
    """
    row = connection.execute(
        statement(
            "SELECT lane, page FROM backfill.quarantine WHERE run_id = :run AND item = :item FOR UPDATE SKIP LOCKED"
        ),
        {"run": run, "item": item},
    ).one_or_none()
    return None if row is None else Place(row.lane, row.page)


def keep(connection: Connection, message: PageMessage, items: Sequence[Quarantined]) -> None:
    """Put a page's failed items into quarantine; for those already there, update the error."""
    if items:
        page = {"run": message.run, "lane": message.lane, "page": message.page}
        connection.execute(sql_file("quarantine"), [{**page, **_columns(each)} for each in items])


def _columns(item: Quarantined) -> dict[str, str | None]:
    refusal = item.refusal
    return {
        "item": item.item,
        "error": item.error[:ERROR_LENGTH],
        "sqlstate": refusal.sqlstate if refusal else None,
        "constraint": refusal.constraint if refusal else None,
        "table": refusal.table if refusal else None,
        "column": refusal.column if refusal else None,
    }


def release(connection: Connection, run: RunId, item: str, place: Place, lane: Lane, result: PageResult) -> None:
    """Take an item out of quarantine and correct the counts of its page and lane.

    The caller must have locked the lane.
    """
    identity = {"run": run, "lane": place.lane, "page": place.page}
    page = connection.execute(
        statement("SELECT counts FROM backfill.page WHERE run_id = :run AND lane = :lane AND number = :page"), identity
    ).one()
    failed = {"read": 1, "quarantined": 1}
    connection.execute(
        sql_file("release"),
        {
            **identity,
            "item": item,
            "counts": as_json(_added(page.counts, result.counts, less=failed)),
            "lane_counts": as_json(_added(lane.counts, result.counts, less=failed)),
            "numbered": result.numbered,
            "due_at": result.due_at,
            "enqueued": list(result.enqueued),
        },
    )


def _added(counts: Mapping[str, int], more: Mapping[str, int], *, less: Mapping[str, int]) -> dict[str, int]:
    names = {*counts, *more}
    return {name: counts.get(name, 0) + more.get(name, 0) - less.get(name, 0) for name in names}


def count_quarantined(connection: Connection, run: RunId) -> int:
    """Return the number of the run's items in quarantine."""
    query = statement("SELECT count(*) FROM backfill.quarantine WHERE run_id = :run")
    return int(connection.execute(query, {"run": run}).scalar_one())
