"""The connection to the host's PostgreSQL: Prisma's URL, the pool, and the classification of errors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import unquote, unquote_plus

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, ExceptionContext, TextClause, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from backfill_tasks.engine import prisma
from backfill_tasks.engine.connection import BoundedConnection, begin, driver
from backfill_tasks.engine.refusal import own_words, refusal, repeats_no_value
from backfill_tasks.errors import ConfigurationError, UnreachableError

_UNENCODED = (
    "DATABASE_URL can't be read: write postgresql://user:password@host:5432/database, and in user and password"
    " percent-encode the characters / ? # @ % and :"
)

#: libpq's options unless the URL sets them: a connection whose packets vanish is noticed within about 15 seconds.
_LIMITS: Mapping[str, str] = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_DEFAULTS: Mapping[str, str] = {"application_name": "backfill", **_LIMITS}

#: Applies until the first transaction begins; see engine/encoding.py.
_OURS: Mapping[str, str] = {"client_encoding": "UTF8"}

Kind = Literal["outage", "contention", "permanent", "item"]
"""The class of a database error, which decides what happens to the page.

`outage`: the server accepts no writes now, or this session is gone; retry until the outage ends. `contention`: a lock,
a deadlock or a time limit; a later attempt may succeed. `permanent`: no retry and no smaller page helps. `item`: one
of the page's items causes the error.
"""

#: SQLSTATE classes (PostgreSQL's Appendix A): connection; login and database, which the server checks only when a
#: session starts, so a worker meets these errors while a server is replaced or a password is changed; resources;
#: operator intervention; input and output.
_OUTAGE_CLASSES = frozenset({"08", "28", "3D", "53", "57", "58"})
#: The server or session is read-only: a standby, a full disk, or default_transaction_read_only.
_READ_ONLY = "25006"
#: A cancelled statement, for example by the statement time-out.
_CANCELLED = "57014"

#: Rollback (deadlock, serialization failure); an object not in the required state, such as a lock not available.
_CONTENTION_CLASSES = frozenset({"40", "55"})
_CONTENTION_CODES = frozenset({_CANCELLED, "25P02", "25P03", "25P04"})

#: How a standby ends a read that blocks its replay: it cancels the statement, ends the session, or resolves a deadlock
#: with the replay.
_RECOVERY_CONFLICTS = frozenset({"40001", "40P01"})

#: The server has ended the session, or has left it in an unreliable state.
_SPOILS_THE_SESSION = frozenset({"25P02", "25P03", "25P04"})

#: Features, catalogs, syntax and access rules.
_PERMANENT_CLASSES = frozenset({"0A", "3F", "42"})

#: An internal error, with which poolers report errors of their own, in words that no server uses.
_INTERNAL = "XX000"
_POOLER_TROUBLE = re.compile(
    r"server (closed|conn crashed)|query_wait_timeout|pooler|max client|max_client|no more connections|check ?out",
    re.IGNORECASE,
)

#: The server's functions that refuse to assign transaction ids to prevent a wraparound. Messages are translated,
#: function names aren't.
_NO_TRANSACTION_IDS = frozenset({"GetNewTransactionId", "GetNewMultiXactId"})


#: A line of an SQL file that holds only a comment; the first line isn't one of them.
_COMMENT = re.compile(r"(?<=\n) *--[^\n]*\n")

#: How an SQL file includes another one.
_INCLUDED = re.compile(r"\{([\w/]+\.sql)\}")


@dataclass(frozen=True)
class Address:
    """The address of the host's database. `schema` is that of the host's tables; `pooled`: behind a transaction pooler.

    `notes` say how parameters were handled that libpq doesn't have or reads differently.
    """

    conninfo: dict[str, Any]
    schema: str
    pooled: bool
    notes: Sequence[prisma.Note] = ()

    def __str__(self) -> str:
        host, port = self.conninfo.get("host"), self.conninfo.get("port", "5432")
        # Without a host, the name may be a misplaced password: postgresql:///PASSWORD.
        return f"{self.conninfo.get('dbname', '?')} on {host}:{port}" if host else f"localhost:{port}"


def parse_url(url: str) -> Address:
    """Parse a PostgreSQL URL, Prisma's included.

    Raises:
        ConfigurationError: it is not valid. The text repeats no part of it, because any part may belong to a password.
    """
    scheme, separator, rest = url.partition("://")
    if scheme in {"prisma", "prisma+postgres"} and separator:
        raise ConfigurationError(
            f"DATABASE_URL can't be used: only Prisma's own client speaks {scheme}://. Set the database's own URL,"
            " postgresql://…, which Prisma calls directUrl"
        )
    if scheme not in {"postgres", "postgresql"} or not separator:
        raise ConfigurationError("DATABASE_URL can't be read: it must begin with postgresql://")
    if any("\ud800" <= character <= "\udfff" for character in url):
        raise ConfigurationError("DATABASE_URL can't be read: it is not UTF-8 text")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    if authority.count("@") > 1 or "@" in path + query or "#" in url:
        raise ConfigurationError(_UNENCODED)
    parameters = [parameter for parameter in query.split("&") if parameter]
    translation = prisma.translate(_decoded(parameters))
    known = "&".join(each for each in parameters if each.partition("=")[0] not in translation.changes)
    try:
        conninfo = conninfo_to_dict(f"{scheme}://{rest}" + (f"?{known}" if known else ""))
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(_why_unreadable(str(error))) from None
    if not str(conninfo.get("port", "1")).replace(",", "").isdecimal():
        raise ConfigurationError(_UNENCODED)
    if not conninfo.get("dbname"):
        raise ConfigurationError("DATABASE_URL names no database: write postgresql://user:password@host:5432/DATABASE")
    given = {name: value for name, value in conninfo.items() if not _is_for_ever(name, value)}
    changed = {name: value for name, value in translation.changes.items() if value is not None}
    return Address(
        conninfo={**_DEFAULTS, **given, **changed, **_OURS},
        schema=translation.schema,
        pooled=translation.pooled,
        notes=translation.notes,
    )


def _decoded(parameters: Sequence[str]) -> dict[str, str]:
    """Return a URL's parameters, percent-decoded. In `schema`, which only Prisma reads, a plus is a space.

    Raises:
        ConfigurationError: a parameter has two values.
    """
    decoded: dict[str, str] = {}
    for parameter in parameters:
        name, separator, value = parameter.partition("=")
        text = unquote_plus(value) if name == "schema" else unquote(value)
        if separator and decoded.setdefault(name, text) != text:
            shown = name if re.fullmatch(r"\w{1,40}", name) else "a parameter"
            raise ConfigurationError(f"DATABASE_URL has {shown} twice, with two values: remove one")
    return decoded


def _is_for_ever(name: str, value: Any) -> bool:
    """Return whether a URL switches a limit off: for libpq, 0 is "no limit" or the system's limit, which is hours."""
    return name in _LIMITS and re.fullmatch(r"-\d+|0+", str(value).strip()) is not None


def _why_unreadable(said: str) -> str:
    """Return libpq's complaint if it is about a parameter, else a text that repeats no part of a password."""
    parameter = re.search(r'invalid URI query parameter: "(\w+)"', said)
    return f"DATABASE_URL has a parameter that PostgreSQL does not know: {parameter[1]}" if parameter else _UNENCODED


def connect(address: Address, *, statement_ms: int = 15_000) -> Engine:
    """Return an engine that keeps at most one idle connection per process, opened on first use: safe before a fork.

    Statements are never prepared: a transaction pooler doesn't support it, and a plan for this page's bounds beats a
    generic one. The server ends a statement that takes longer than `statement_ms`; the client ends one that the server
    leaves unanswered for slightly longer.
    """
    # Behind a transaction pooler, the pooler pools; an idle connection of ours would only occupy one of its slots.
    pool: dict[str, Any] = (
        {"poolclass": NullPool} if address.pooled else {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 16}
    )
    engine = create_engine(
        "postgresql+psycopg://",
        creator=partial(BoundedConnection.open, address.conninfo, statement_ms=statement_ms),
        # Every transaction is begun by `begin()` and ends with it. _end_transaction handles those that were
        # interrupted.
        pool_reset_on_return=None,
        **pool,
    )
    event.listen(engine, "begin", begin)
    event.listen(engine, "handle_error", _drop_session)
    event.listen(engine, "reset", _end_transaction)
    return engine


def _drop_session(context: ExceptionContext) -> None:
    """Discard a session after an error that may come from it, so the next transaction gets a new one."""
    if _kind(context.original_exception) == "outage" or _code(context.original_exception) in _SPOILS_THE_SESSION:
        context.is_disconnect = True


def _end_transaction(connection: Any, _record: Any, _state: Any) -> None:
    """Roll back a transaction whose commit a deadline or a signal interrupted, before the connection is reused."""
    if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
        connection.rollback()


@contextmanager
def reachable(address: Address) -> Iterator[None]:
    """Turn a failed connection into a one-line error that says where and why.

    Raises:
        UnreachableError: the database did not answer, or refused this role.
    """
    try:
        yield
    except DBAPIError as error:
        if not error.connection_invalidated and sqlstate(error) is not None:
            raise
        why = f"{reason(error)}{prisma.advice(str(error.orig))}"
        raise UnreachableError(f"PostgreSQL can't be reached ({address}): {why}. Check DATABASE_URL") from None


def sqlstate(error: DBAPIError) -> str | None:
    """Return the error's SQLSTATE; None if no server sent one."""
    return getattr(error.orig, "sqlstate", None)


def _code(error: BaseException | None) -> str | None:
    return getattr(error, "sqlstate", None)


def _kind(error: BaseException | None) -> Kind:
    """Classify a driver's error. Every decision about database errors is based on this function."""
    code = _code(error)
    if code is None:
        return "outage" if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else "item"
    if code in _CONTENTION_CODES or code[:2] in _CONTENTION_CLASSES:
        return "contention"
    if code == _READ_ONLY or code[:2] in _OUTAGE_CLASSES or _is_of_the_server(code, error):
        return "outage"
    return "permanent" if code[:2] in _PERMANENT_CLASSES else "item"


def _is_of_the_server(code: str, error: BaseException | None) -> bool:
    """Return whether an error that usually concerns one statement ended the session, or comes from a pooler."""
    told = getattr(error, "diag", None)
    return (
        getattr(told, "severity_nonlocalized", None) in {"FATAL", "PANIC"}
        or getattr(told, "source_function", None) in _NO_TRANSACTION_IDS
        or (code == _INTERNAL and _POOLER_TROUBLE.search(str(error)) is not None)
    )


def kind(error: DBAPIError) -> Kind:
    """Classify a statement's error."""
    return _kind(error.orig)


def is_outage(error: DBAPIError) -> bool:
    """Return whether the error ends by itself, without a change to this run, so that no number of retries is enough."""
    return kind(error) == "outage"


def is_transient(error: DBAPIError) -> bool:
    """Return whether the same statement may succeed a little later."""
    return kind(error) in {"outage", "contention"}


def is_permanent(error: DBAPIError) -> bool:
    """Return whether no retry and no smaller page can help: rights, tables, syntax."""
    return kind(error) == "permanent"


def is_recovery_conflict(error: DBAPIError) -> bool:
    """Return whether a standby cancelled a read-only transaction in favor of its replay."""
    return _code(error.orig) in _RECOVERY_CONFLICTS


def advice(error: DBAPIError) -> str:
    """Return the fix for an error that stopped a command, as sentences to append, or an empty string."""
    if _code(error.orig) == _READ_ONLY:
        return (
            ". The server accepts no writes. After a failover, check which server DATABASE_URL names. Otherwise look"
            " for a full disk or default_transaction_read_only. Running runs continue by themselves"
        )
    if is_outage(error):
        return (
            ". Wait until the database serves this role again, then type the command again. Running runs continue by"
            " themselves"
        )
    return ". Type the command again" if is_transient(error) else ""


def is_foreign_key_violation(error: DBAPIError) -> bool:
    """Return whether a referenced row doesn't exist."""
    return isinstance(error.orig, psycopg.errors.ForeignKeyViolation)


def reason(error: DBAPIError) -> str:
    """Return why a statement failed, on one line, with the SQLSTATE.

    The database's own words if they can't repeat a value of a row; otherwise the kind of error and its place. Never the
    statement or its parameters.
    """
    if not repeats_no_value(error.orig, of_an_item=kind(error) == "item"):
        return refusal(error.orig).summary
    message = getattr(getattr(error.orig, "diag", None), "message_primary", None) or str(error.orig)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return _with_sqlstate(lines[0] if lines else "no message", error)


def whole_reason(error: DBAPIError) -> str:
    """Return everything the database said. It may repeat values of a row: only for an operator who asks for it."""
    return _with_sqlstate(own_words(error.orig), error)


def _with_sqlstate(words: str, error: DBAPIError) -> str:
    """Append an error's SQLSTATE."""
    code = sqlstate(error)
    return f"{words}{f' ({code})' if code else ''}"


@cache
def load_sql(package: str, name: str) -> str:
    """Return the statement of an SQL file in a package.

    `{sql/fence.sql}` in it includes the statement of that file of the package, so no SQL is written twice. Each file is
    a whole statement that psql can run once the includes are replaced and the parameters are set. Comments after the
    first line aren't sent: a third of a page's statement would be parsed in vain, on both sides.
    """
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    return _INCLUDED.sub(lambda found: load_sql(package, found[1]).rstrip(), _COMMENT.sub("", text))


@cache
def statement(sql: str) -> TextClause:
    """Return a statement with named parameters, parsed once and cached."""
    return text(sql)


def quoted(schema: str) -> str:
    """Quote a schema's name for a statement."""
    return '"' + schema.replace('"', '""') + '"'


def host_statement(sql: str, schema: str) -> TextClause:
    """Return a statement with `{host}` replaced by the schema of the host's tables."""
    return text(sql.replace("{host}", quoted(schema).replace(":", "\\:")))


def begin_read_only(connection: Connection, *, statement_ms: int) -> None:
    """Make the current transaction read-only and set its time-outs and its planner settings, the same as a page's.

    The settings end with the transaction, so they also work behind a transaction pooler.
    """
    driver(connection).await_statements_of(statement_ms)
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    connection.execute(
        statement(load_sql("backfill_tasks.engine", "sql/read_only.sql")), {"limit": f"{statement_ms}ms"}
    )
