"""A realistic host database of any size, the same every time.

It serves the demo, the tests and the benchmarks. The database itself generates the rows, set by set, with the SQL
scripts next to this module. They use only columns that the host's own schema has, so they fill that schema, too.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from psycopg import ClientCursor, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

Ids = Literal["uuid", "cuid", "mixed"]

SCHEMA = Path(__file__).with_name("schema.sql")
TABLES = ("Client", "WorkspaceSettings", "Lead", "Message", "BackgroundJob")
SCRIPTS = ("functions", "clients", "plan", "leads", "messages", "jobs", "cleanup")
CASES = 32
"""From so many leads on, a sample shows every kind of lead, tag and job; plan.sql lists them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The contents of a filled host database, counted in its tables.

    The first four are rows. Every lead is ``scored``, ``no_inbound`` (unscored, and never answered) or ``eligible``;
    every eligible lead is in one of the classes after it, which are those of a backfill of all unscored leads.
    """

    clients: int
    leads: int
    messages: int
    jobs: int
    scored: int
    no_inbound: int
    eligible: int
    disqualified: int
    inserted: int
    requeued: int
    refreshed: int
    in_flight: int


def create_schema(connection: Connection[Any], schema: str = "public", definition: Path = SCHEMA) -> None:
    """Create the host's tables, all of them or none.

    Args:
        connection: a connection that may create schemas and tables.
        schema: the PostgreSQL schema to create them in; created if it is missing.
        definition: SQL that names its tables without a schema, as ``schema.sql`` and the host's own do.
    """
    with _transaction(connection, schema) as cursor:
        cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        cursor.execute(definition.read_bytes())


def fill(
    connection: Connection[Any],
    leads: int = 20_000,
    *,
    seed: int = 1,
    ids: Ids = "uuid",
    scored_share: float = 0.35,
    eligible: int | None = None,
    until: datetime | None = None,
    schema: str = "public",
) -> Sample:
    """Fill the empty tables of a host database, all of them or none.

    The same arguments give the same rows, byte for byte; without ``until``, the same except for their times. From
    ``CASES`` leads on, every kind of lead, tag and job occurs at least once. Afterwards, statistics are fresh and,
    unless the caller holds a transaction open, the tables are vacuumed, so that index-only scans work.

    Args:
        connection: a connection as the tables' owner: keys and indexes are dropped, and recreated after loading.
        leads: the number of leads.
        seed: each seed gives a different database of the same kind.
        ids: ``uuid``; ``cuid``, which sort in the order of their creation; or ``mixed``: both, in lower and upper case,
            most with prefixes, which include underscores and letters beyond ASCII.
        scored_share: the share of scored leads, from 0 to 1, among those that are not picked by ``eligible``.
        eligible: exactly this many leads are unscored and have answered, spread evenly; the others are scored, or never
            answered, and the ``CASES`` are left out. Default: the number isn't fixed.
        until: an aware datetime at which the sample's two years end. Default: now.
        schema: the PostgreSQL schema of the tables.

    Raises:
        ValueError: an argument is invalid, or the database already has leads or clients.
    """
    _check(leads, ids, scored_share, eligible, until)
    parameters = {
        "leads": leads,
        "seed": seed,
        "ids": ids,
        "scored_share": scored_share,
        "eligible": eligible,
        "until": (until or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None),
    }
    with _transaction(connection, schema) as cursor:
        _refuse_if_filled(cursor, schema)
        with _indexes_set_aside(cursor):
            for script in SCRIPTS:
                cursor.execute(_script(script), parameters)
        cursor.execute(_on_all_tables("ANALYZE", schema))
        sample = _count(cursor)
    if connection.info.transaction_status is TransactionStatus.IDLE:
        _vacuum(connection, schema)
    return sample


def _check(leads: int, ids: str, scored_share: float, eligible: int | None, until: datetime | None) -> None:
    """Reject invalid arguments."""
    if leads < 0:
        raise ValueError(f"leads is {leads}: give 0 or more")
    if ids not in get_args(Ids):
        raise ValueError(f"ids is {ids!r}: give one of {', '.join(get_args(Ids))}")
    if not 0 <= scored_share <= 1:
        raise ValueError(f"scored_share is {scored_share}: give a number from 0 to 1")
    if eligible is not None and not 0 <= eligible <= leads:
        raise ValueError(f"eligible is {eligible}: give a number from 0 to {leads}, the number of leads")
    if until is not None and until.tzinfo is None:
        raise ValueError(f"until is {until}: give a datetime with a time zone")


@contextmanager
def _transaction(connection: Connection[Any], schema: str) -> Iterator[ClientCursor[TupleRow]]:
    """Yield a cursor in a transaction in which unqualified names refer to this schema.

    Parameters are merged by the client, so that one call can run a script of many statements. Inside a transaction of
    the caller's, this is a savepoint, and the caller's search_path is restored after it.
    """
    with connection.transaction(), ClientCursor(connection, row_factory=tuple_row) as cursor:
        before = cursor.execute("SELECT current_setting('search_path')").fetchone()
        cursor.execute("SELECT set_config('search_path', quote_ident(%s), true)", [schema])
        yield cursor
        cursor.execute("SELECT set_config('search_path', %s, true)", before)


def _refuse_if_filled(cursor: ClientCursor[TupleRow], schema: str) -> None:
    """Reject a database that isn't empty: it might be a real one."""
    cursor.execute('SELECT EXISTS (SELECT FROM "Client") OR EXISTS (SELECT FROM "Lead")')
    if cursor.fetchone() != (False,):
        raise ValueError(f"The host tables in schema {schema!r} are not empty: fill a fresh database")


@contextmanager
def _indexes_set_aside(cursor: ClientCursor[TupleRow]) -> Iterator[None]:
    """Drop the keys and indexes of the large tables, and recreate exactly the same ones afterwards."""
    cursor.execute("SET LOCAL maintenance_work_mem = '256MB'")
    statements = cursor.execute(_script("indexes")).fetchall()
    for take_away, _, _ in statements:
        cursor.execute(take_away.encode())
    yield
    for _, put_back, _ in reversed(statements):
        cursor.execute(put_back.encode())


def _count(cursor: ClientCursor[TupleRow]) -> Sample:
    """Count the contents of the tables."""
    (counts,) = cursor.execute(_script("counts")).fetchall()
    return Sample(*counts)


def _vacuum(connection: Connection[Any], schema: str) -> None:
    """Vacuum all tables, on a connection without an open transaction."""
    autocommit = connection.autocommit
    connection.autocommit = True
    try:
        connection.execute(_on_all_tables("VACUUM", schema))
    finally:
        connection.autocommit = autocommit


def _on_all_tables(command: Literal["ANALYZE", "VACUUM"], schema: str) -> sql.Composed:
    """Compose a command that takes a list of tables."""
    tables = sql.SQL(", ").join(sql.Identifier(schema, table) for table in TABLES)
    return sql.SQL(" ").join([sql.SQL(command), tables])


def _script(name: str) -> bytes:
    """Read one of the SQL scripts next to this module."""
    return Path(__file__).with_name(f"{name}.sql").read_bytes()
