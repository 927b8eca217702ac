"""The connection to the host's PostgreSQL: Prisma's URL, the pool, and which errors pass by themselves."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, TextClause, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from backfill_tasks.errors import ConfigurationError, UnreachableError

#: Parameters of Prisma's connection URLs that libpq does not know and that mean nothing to it
#: (https://www.prisma.io/docs/orm/overview/databases/postgresql#arguments).
_PRISMA_ONLY = frozenset({
    "connection_limit", "pgbouncer", "pool_timeout", "schema", "single_use_connections", "socket_timeout",
    "sslaccept", "sslidentity", "sslpassword", "statement_cache_size",
})  # fmt: skip

_UNENCODED = (
    "DATABASE_URL can't be read: write postgresql://user:password@host:5432/database, and in user and password"
    " percent-encode the characters / ? # @ % and :"
)

#: SQLSTATE classes and codes of errors that pass by themselves (PostgreSQL's Appendix A): connection, rollback
#: (deadlock, serialization), resources, operator intervention, a lock or a time-out.
_TRANSIENT_CLASSES = frozenset({"08", "40", "53", "57", "58"})
_TRANSIENT_CODES = frozenset({"25P03", "55P03"})

#: SQLSTATE classes of errors that no retry and no smaller page can cure: features, authorization, catalogs,
#: syntax and access rules.
_PERMANENT_CLASSES = frozenset({"0A", "28", "3D", "3F", "42"})


@dataclass(frozen=True)
class Address:
    """Where the host's database is. `schema` is the one of the host's tables; `pooled`: behind a transaction pooler."""

    conninfo: dict[str, Any]
    schema: str
    pooled: bool

    def __str__(self) -> str:
        port = self.conninfo.get("port", "5432")
        return f"{self.conninfo.get('dbname', '?')} on {self.conninfo.get('host', 'localhost')}:{port}"


def parse_url(url: str) -> Address:
    """Read a PostgreSQL URL, Prisma's own included.

    Raises:
        ConfigurationError: it is not one. The text repeats nothing of it, because any part may be one of a password.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in {"postgres", "postgresql"} or not separator:
        raise ConfigurationError("DATABASE_URL can't be read: it must begin with postgresql://")
    if any("\ud800" <= character <= "\udfff" for character in url):
        raise ConfigurationError("DATABASE_URL can't be read: it is not UTF-8 text")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    if authority.count("@") > 1 or "@" in path + query or "#" in url:
        raise ConfigurationError(_UNENCODED)
    parameters = [parameter for parameter in query.split("&") if parameter]
    prisma = dict(parse_qsl(query, keep_blank_values=True))
    known = "&".join(each for each in parameters if each.partition("=")[0] not in _PRISMA_ONLY)
    try:
        conninfo = conninfo_to_dict(f"{scheme}://{rest}" + (f"?{known}" if known else ""))
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(_why_unreadable(str(error))) from None
    if not str(conninfo.get("port", "1")).replace(",", "").isdecimal():
        raise ConfigurationError(_UNENCODED)
    if not conninfo.get("dbname"):
        raise ConfigurationError("DATABASE_URL names no database: write postgresql://user:password@host:5432/DATABASE")
    return Address(
        conninfo={"application_name": "backfill", "connect_timeout": "10", **conninfo},
        schema=prisma.get("schema") or "public",
        pooled=prisma.get("pgbouncer") == "true",
    )


def _why_unreadable(said: str) -> str:
    """What libpq complains of, where it speaks of a parameter and not of what may be a password."""
    parameter = re.search(r'invalid URI query parameter: "(\w+)"', said)
    return f"DATABASE_URL has a parameter that PostgreSQL does not know: {parameter[1]}" if parameter else _UNENCODED


def connect(address: Address) -> Engine:
    """An engine of one connection a process, which is opened when first used: safe to make before a fork.

    Statements are never prepared: a transaction pooler has no place for them, and a plan made for this page's bounds
    beats one made for any.
    """
    # Behind a transaction pooler the pooler pools; a connection of our own kept open would only use up a place in it.
    pool: dict[str, Any] = (
        {"poolclass": NullPool} if address.pooled else {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 16}
    )
    engine = create_engine(
        "postgresql+psycopg://",
        connect_args={**address.conninfo, "prepare_threshold": None},
        # A page that has waited for its turn must see what was committed meanwhile, whatever the host's default is.
        isolation_level="READ COMMITTED",
        # Every transaction is begun with `begin()`, which ends it. See _end_transaction for those that were cut short.
        pool_reset_on_return=None,
        **pool,
    )
    event.listen(engine, "reset", _end_transaction)
    return engine


def _end_transaction(connection: Any, _record: Any, _state: Any) -> None:
    """Roll back what a time limit or a signal has cut short in the midst of its commit: nobody is to go on in it."""
    if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
        connection.rollback()


@contextmanager
def reachable(address: Address) -> Iterator[None]:
    """Turn a failed connection into one line that says where and why.

    Raises:
        UnreachableError: the database did not answer, or refused this role.
    """
    try:
        yield
    except DBAPIError as error:
        if not error.connection_invalidated and sqlstate(error) is not None:
            raise
        raise UnreachableError(f"PostgreSQL can't be reached ({address}): {reason(error)}; see DATABASE_URL") from None


def sqlstate(error: DBAPIError) -> str | None:
    """The error's SQLSTATE, or None where there was no server left to send one."""
    return getattr(error.orig, "sqlstate", None)


def is_transient(error: DBAPIError) -> bool:
    """Whether the same statement may go through a little later."""
    code = sqlstate(error)
    if code is None:
        return isinstance(error.orig, psycopg.OperationalError)
    return code[:2] in _TRANSIENT_CLASSES or code in _TRANSIENT_CODES


def is_permanent(error: DBAPIError) -> bool:
    """Whether no retry and no smaller page can help: rights, tables, syntax."""
    code = sqlstate(error)
    return code is not None and code[:2] in _PERMANENT_CLASSES


def is_foreign_key_violation(error: DBAPIError) -> bool:
    """Whether a row that was referred to is gone."""
    return isinstance(error.orig, psycopg.errors.ForeignKeyViolation)


def reason(error: DBAPIError) -> str:
    """The database's own words on one line, with the SQLSTATE; never the statement or its parameters."""
    diagnostics = getattr(error.orig, "diag", None)
    message = getattr(diagnostics, "message_primary", None) or str(error.orig)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    code = sqlstate(error)
    return f"{lines[0] if lines else 'no message'}{f' ({code})' if code else ''}"


@cache
def load_sql(package: str, name: str) -> str:
    """The text of an SQL file that lies in a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def statement(sql: str) -> TextClause:
    """A statement with named parameters, looked through for them once and not at every page."""
    return text(sql)


def begin_read_only(connection: Connection, *, statement_ms: int) -> None:
    """Make the current transaction one that reads a stretch by index, in which the server refuses every write.

    The settings end with the transaction, so they hold behind a transaction pooler too. They are the page's own: see
    sql/fence.sql.
    """
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    connection.exec_driver_sql(
        "SELECT set_config('statement_timeout', %(limit)s, true), set_config('lock_timeout', %(limit)s, true),"
        " set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"
        " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
        " set_config('jit', 'off', true)",
        {"limit": f"{statement_ms}ms"},
    )
