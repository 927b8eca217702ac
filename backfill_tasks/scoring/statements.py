"""The SQL files of this package, and the settings of the transactions that run them."""

from functools import cache

from sqlalchemy import Connection, TextClause

from backfill_tasks.engine.database import host_statement, load_sql, statement

#: The longest wait for a lock of the host's, in milliseconds, where no setting says so.
LOCK_MS = 500


@cache
def file(name: str, schema: str = "public") -> TextClause:
    """Return the statement of a file in sql/, for the host's tables in this schema."""
    return host_statement(load_sql("backfill_tasks.scoring", f"sql/{name}.sql"), schema)


def prepare(connection: Connection, lock_ms: int = LOCK_MS) -> None:
    """Give a transaction a page's settings: rows are read through indexes, and none is hidden or waited for long."""
    connection.execute(statement(load_sql("backfill_tasks.engine", "sql/page_settings.sql")))
    connection.execute(statement("SELECT set_config('lock_timeout', :limit, true)"), {"limit": f"{lock_ms}ms"})
