"""Makes a host database that looks like a real one, of any size and the same every time.

It serves the demo, the tests and the benchmarks. The rows are made by the database itself, set by set, in the
SQL scripts beside this module, with no column that the host's own schema has not: either can be filled.
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
    """What a filled host database holds, counted in its tables.

    The first four are rows. Every lead is ``scored``, ``no_inbound`` (unscored, and never answered) or
    ``eligible``; every eligible one is of one of the classes after it, which are those of a backfill of all
    unscored leads.
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
        schema: the PostgreSQL schema to create them in; made if it is missing.
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

    The same arguments give the same rows, byte for byte; without ``until``, the same but for their times.
    From ``CASES`` leads on, every kind of lead, tag and job is there at least once. Statistics are fresh
    afterwards, and, unless the caller holds a transaction open, the tables are vacuumed, so that index-only
    scans work.

    Args:
        connection: one of the tables' owner: keys and indexes are dropped, and made again after the loading.
        leads: how many leads.
        seed: another one gives another database of the same kind.
        ids: ``uuid``; ``cuid``, which come in the order of their creation; or ``mixed``: both, in lower and
            upper case, most behind prefixes, among them underscores and letters beyond ASCII.
        scored_share: the share of scored leads, from 0 to 1, among those that are not picked by ``eligible``.
        eligible: exactly so many leads are unscored and have answered, spread evenly; the others are scored,
            or never answered, and the ``CASES`` are left out. Default: as it comes.
        until: an aware datetime at which the sample's two years end. Default: now.
        schema: the PostgreSQL schema of the tables.

    Raises:
        ValueError: an argument makes no sense, or the database has leads or clients already.
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
    """Refuse arguments that make no sense."""
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
    """Give a cursor in a transaction in which a name without a schema is one of this schema.

    Its parameters are merged by the client, so that one call can run a script of many statements. Inside a
    transaction of the caller's, this is a savepoint, and the caller's search_path is back after it.
    """
    with connection.transaction(), ClientCursor(connection, row_factory=tuple_row) as cursor:
        before = cursor.execute("SELECT current_setting('search_path')").fetchone()
        cursor.execute("SELECT set_config('search_path', quote_ident(%s), true)", [schema])
        yield cursor
        cursor.execute("SELECT set_config('search_path', %s, true)", before)


def _refuse_if_filled(cursor: ClientCursor[TupleRow], schema: str) -> None:
    """Refuse a database that has something in it: it might be a real one."""
    cursor.execute('SELECT EXISTS (SELECT FROM "Client") OR EXISTS (SELECT FROM "Lead")')
    if cursor.fetchone() != (False,):
        raise ValueError(f"The host tables in schema {schema!r} are not empty: fill a fresh database")


@contextmanager
def _indexes_set_aside(cursor: ClientCursor[TupleRow]) -> Iterator[None]:
    """Drop the keys and indexes of the large tables, and make the very same ones again afterwards."""
    cursor.execute("SET LOCAL maintenance_work_mem = '256MB'")
    statements = cursor.execute(_script("indexes")).fetchall()
    for take_away, _, _ in statements:
        cursor.execute(take_away.encode())
    yield
    for _, put_back, _ in reversed(statements):
        cursor.execute(put_back.encode())


def _count(cursor: ClientCursor[TupleRow]) -> Sample:
    """Count what is in the tables."""
    (counts,) = cursor.execute(_script("counts")).fetchall()
    return Sample(*counts)


def _vacuum(connection: Connection[Any], schema: str) -> None:
    """Vacuum all tables, on a connection that has no transaction open."""
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
    """Read one of the SQL scripts beside this module."""
    return Path(__file__).with_name(f"{name}.sql").read_bytes()
