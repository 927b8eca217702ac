"""SQL statements on the host's tables."""

from functools import cache

from sqlalchemy import TextClause, text

from backfill_tasks.engine.database import load_sql


def quoted(schema: str) -> str:
    """Quote a schema's name for a statement."""
    return '"' + schema.replace('"', '""') + '"'


def statement(sql: str, schema: str) -> TextClause:
    """Return a statement with `{host}` replaced by the schema of the host's tables."""
    return text(sql.replace("{host}", quoted(schema).replace(":", "\\:")))


@cache
def file(schema: str, path: str, **parts: str) -> TextClause:
    """Return the statement of an SQL file, by its path in `backfill_tasks/backfills`; each is read once.

    A name in braces is replaced by a part, the statement of another file: `leads="lead_scoring/split.sql"` for
    `{leads}`. A file names the files that it always includes itself: see `load_sql`.
    """
    sql = load_sql("backfill_tasks.backfills", path)
    for name, part in parts.items():
        sql = sql.replace(f"{{{name}}}", load_sql("backfill_tasks.backfills", part).rstrip())
    return statement(sql, schema)
