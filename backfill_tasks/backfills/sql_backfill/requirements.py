"""The requirements for walking a table by a key: no NULLs, an index in the key's order, and unique keys."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from backfill_tasks.backfills.host import sql
from backfill_tasks.engine.contract import Missing
from backfill_tasks.engine.database import load_sql, statement


def missing(connection: Connection, table: str, columns: Sequence[str]) -> Iterator[Missing]:
    """Yield what keeps an existing table from being walked by these columns. `table`: quoted, with its schema."""
    query = statement(load_sql("backfill_tasks.backfills", "sql_backfill/key.sql").format())
    found = connection.execute(query, {"table": table, "columns": list(columns)}).one()
    key = ", ".join(map(sql.quoted, columns))
    if found.unknown:
        names = ", ".join(map(sql.quoted, found.unknown))
        yield Missing(f"{table} has no column {names}", "the backfill's key must name columns of its table")
        return
    for name in found.nullable:
        yield Missing(
            f"{sql.quoted(name)} of {table} may be NULL, and a row without a key would be skipped",
            f"use another key, or have a DBA run ALTER TABLE {table} ALTER COLUMN {sql.quoted(name)} SET NOT NULL",
        )
    if found.inherited:
        yield Missing(
            f"other tables inherit from {table}, and no key is unique across all of them", "walk each table on its own"
        )
    if not found.is_unique:
        yield Missing(
            f"no index makes {key} unique in {table}, so a page could end between two rows with the same key",
            f"add columns to the key, or have a DBA run CREATE UNIQUE INDEX CONCURRENTLY ON {table} ({key})",
        )
    elif not found.ordered:
        yield Missing(
            f"no index of {table} is in the order of its key {key}, so each page would read the whole table",
            f"have a DBA run CREATE INDEX CONCURRENTLY ON {table} ({key})",
        )
