"""Quarantined items: kept, held for another try, released."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from backfill_tasks.engine.database import statement
from backfill_tasks.engine.ledger.rows import sql_file
from backfill_tasks.engine.model import Lane, PageResult, Quarantined, RunId

#: Longest error text that is kept of a quarantined item, in characters.
ERROR_LENGTH = 1_000


@dataclass(frozen=True)
class Place:
    """The page that a quarantined item was met on."""

    lane: int
    page: int


def quarantined(connection: Connection, run: RunId, *, most: int | None) -> list[Quarantined]:
    """The run's first quarantined items (None: all), in the order of their pages."""
    rows = connection.execute(
        statement(
            "SELECT item, error FROM backfill.quarantine WHERE run_id = :run ORDER BY lane, page, item LIMIT :most"
        ),
        {"run": run, "most": most},
    )
    return [Quarantined(row.item, row.error) for row in rows]


def hold_quarantined(connection: Connection, run: RunId, item: str) -> Place | None:
    """Where a quarantined item is, held until the transaction ends; None if it is not, or somebody else holds it."""
    row = connection.execute(
        statement(
            "SELECT lane, page FROM backfill.quarantine WHERE run_id = :run AND item = :item FOR UPDATE SKIP LOCKED"
        ),
        {"run": run, "item": item},
    ).one_or_none()
    return None if row is None else Place(row.lane, row.page)


def keep_in_quarantine(connection: Connection, run: RunId, item: str, error: str) -> None:
    """Note the error that an item has failed with again."""
    connection.execute(
        statement("UPDATE backfill.quarantine SET error = :error, at = now() WHERE run_id = :run AND item = :item"),
        {"run": run, "item": item, "error": error[:ERROR_LENGTH]},
    )


def release(connection: Connection, run: RunId, item: str, place: Place, lane: Lane, result: PageResult) -> None:
    """Take an item out of quarantine: its page and its lane, which is held, count what became of it instead."""
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
            "counts": json.dumps(_added(page.counts, result.counts, less=failed)),
            "lane_counts": json.dumps(_added(lane.counts, result.counts, less=failed)),
            "numbered": result.numbered,
            "due_at": result.due_at,
        },
    )


def _added(counts: Mapping[str, int], more: Mapping[str, int], *, less: Mapping[str, int]) -> dict[str, int]:
    names = {*counts, *more}
    return {name: counts.get(name, 0) + more.get(name, 0) - less.get(name, 0) for name in names}


def count_quarantined(connection: Connection, run: RunId) -> int:
    """How many of the run's items are in quarantine."""
    query = statement("SELECT count(*) FROM backfill.quarantine WHERE run_id = :run")
    return int(connection.execute(query, {"run": run}).scalar_one())
