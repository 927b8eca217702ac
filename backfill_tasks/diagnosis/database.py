"""Query PostgreSQL directly, over a fresh connection: the pooled one may be the broken part."""

from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from backfill_tasks.diagnosis.facts import DatabaseSession, DatabaseView, Key, LockOwner
from backfill_tasks.engine.database import Address, connect, load_sql, reason, statement
from backfill_tasks.engine.model import RunId

#: The maximum time to connect, in seconds, and per statement, in milliseconds.
_CONNECT_SECONDS, _STATEMENT_MS = 3, 1_000

_IS_READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"


def ask(address: Address, lanes: Collection[Key]) -> DatabaseView:
    """Return PostgreSQL's view of these lanes. A PostgreSQL error becomes part of it."""
    # Treated as behind a pooler, so that the engine keeps no connection.
    fresh = replace(address, conninfo={**address.conninfo, "connect_timeout": str(_CONNECT_SECONDS)}, pooled=True)
    engine = connect(fresh)
    try:
        with closing(engine.connect()) as connection, connection.begin():
            return _view(connection, lanes)
    except DBAPIError as error:
        return DatabaseView(error=reason(error))


def _view(connection: Connection, lanes: Collection[Key]) -> DatabaseView:
    is_read_only = connection.exec_driver_sql(_IS_READ_ONLY).scalar_one()
    connection.exec_driver_sql(f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = '{_STATEMENT_MS}ms'")
    keys = {"runs": [run for run, _ in lanes], "lanes": [number for _, number in lanes]}
    return DatabaseView(
        is_read_only=is_read_only,
        lock_owners={_key(row): _lock_owner(row) for row in _rows(connection, "lock_owners", keys)},
        holds={_key(row): row.kind for row in _rows(connection, "holds", keys)},
    )


def _rows(connection: Connection, name: str, values: dict[str, Any]) -> list[Row[Any]]:
    return list(connection.execute(statement(load_sql("backfill_tasks.diagnosis", f"sql/{name}.sql")), values))


def _key(row: Row[Any]) -> Key:
    return RunId(row.run_id), row.number


def _lock_owner(row: Row[Any]) -> LockOwner:
    blocker = None
    if row.blocking is not None:
        blocker = DatabaseSession(row.blocking, row.blocking_application, row.blocking_state, row.blocking_seconds)
    return LockOwner(DatabaseSession(row.pid, row.application, row.state, row.seconds), row.is_page, blocker)
