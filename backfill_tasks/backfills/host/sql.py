"""SQL statements on the host's tables."""

from functools import cache

from sqlalchemy import TextClause

from backfill_tasks.engine.database import host_statement as statement
from backfill_tasks.engine.database import load_sql, quoted

__all__ = ["file", "quoted", "statement"]


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
