"""The SQL files of this package."""

from functools import cache

from sqlalchemy import TextClause

from backfill_tasks.engine.database import host_statement, load_sql


@cache
def file(name: str, schema: str = "public") -> TextClause:
    """Return the statement of a file in sql/, for the host's tables in this schema."""
    return host_statement(load_sql("backfill_tasks.scoring", f"sql/{name}.sql"), schema)
