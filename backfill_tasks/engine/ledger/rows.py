"""Shared by the ledger's modules: SQL files, rows, and events."""

import getpass
import socket
from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from backfill_tasks.engine.database import load_sql, statement
from backfill_tasks.engine.encoding import as_json
from backfill_tasks.engine.model import Bounds, Lane, RunId


def who() -> str:
    """Return user@host of this process, as recorded in events."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def note(connection: Connection, run: RunId | None, name: str, detail: Mapping[str, Any], *, who: str) -> None:
    """Write an event of a run, or of the drain (None), to the ledger."""
    connection.execute(
        statement(
            "INSERT INTO backfill.event (run_id, name, detail, who) VALUES (:run, :name, CAST(:detail AS jsonb), :who)"
        ),
        {"run": run, "name": name, "detail": as_json(dict(detail)), "who": who},
    )


@cache
def sql_file(name: str) -> TextClause:
    """Return the statement of a file in sql/."""
    return text(load_sql("backfill_tasks.engine", f"sql/{name}.sql"))


def lane_of(row: Row[Any]) -> Lane:
    """Return the lane of a row of backfill.lane."""
    return Lane(
        number=row.number,
        bounds=Bounds(row.lower_bound, row.upper_bound),
        cursor=row.cursor,
        page=row.page,
        generation=row.generation,
        state=row.state,
        reason=row.reason,
        counts=row.counts,
        moved_at=row.moved_at,
        size=row.size,
        waits=row.waits,
        held_until=row.held_until,
    )
