"""The bound that sizes itself: what is known of the host's drain, one row per backfill."""

from sqlalchemy import Connection

from backfill_tasks.engine.admission.bound import Bound
from backfill_tasks.engine.database import statement
from backfill_tasks.engine.encoding import as_json


def read_bound(connection: Connection, backfill: str) -> tuple[float, Bound | None]:
    """Return the database's clock as a Unix time, and the bound; None before the first page that was admitted by it.

    A page that will write it must have its turn.
    """
    row = connection.execute(
        statement(
            "SELECT extract(epoch FROM clock_timestamp())::float8 AS now,"
            " (SELECT state FROM backfill.bound WHERE backfill = :backfill) AS state"
        ),
        {"backfill": backfill},
    ).one()
    return row.now, None if row.state is None else Bound.from_json(row.state)


def write_bound(connection: Connection, backfill: str, bound: Bound) -> None:
    """Write the bound. The caller's page must have its turn."""
    connection.execute(
        statement(
            "INSERT INTO backfill.bound (backfill, state, at)"
            " VALUES (:backfill, CAST(:state AS jsonb), clock_timestamp())"
            " ON CONFLICT (backfill) DO UPDATE SET state = excluded.state, at = excluded.at"
        ),
        {"backfill": backfill, "state": as_json(bound.as_json())},
    )
