"""A connection to PostgreSQL with a deadline for each call, and the settings of each transaction."""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import encoding

T = TypeVar("T")

#: How much longer than the server's statement time-out the client waits for an answer, in seconds.
_GRACE_SECONDS = 5.0

#: How long a session that was idle in the pool may take to begin a transaction, in seconds. A healthy server takes a
#: millisecond; a lost session is replaced.
_REUSE_SECONDS = 5.0

#: Overrides settings of the role, the database and the environment. They end with the transaction, so they work behind
#: a transaction pooler, and they are sent with BEGIN, so they cost no round trip.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = 0;"
    " SET LOCAL idle_in_transaction_session_timeout = {limit}; SET LOCAL DateStyle = 'ISO, YMD';"
    " SET LOCAL IntervalStyle = 'postgres'; SET LOCAL TimeZone = 'UTC'; SET LOCAL bytea_output = 'hex';"
    " SET LOCAL client_encoding = '{encoding}'; SET LOCAL extra_float_digits = 1;"
    " SET LOCAL standard_conforming_strings = on; SET LOCAL array_nulls = on"
)

#: The first server version with transaction_timeout. The statement time-outs already bound a page.
_TRANSACTION_TIMEOUT_SINCE = 170000


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A psycopg connection that closes when the server leaves a call unanswered for `patience` seconds.

    The server's own time-outs can't do this, because the server may be unreachable. Neither can TCP's: a proxy that
    lost the server still acknowledges every packet.
    """

    patience: float = _REUSE_SECONDS
    statement_ms: int
    #: Whether it has begun a transaction before, and so may have been lost since.
    used: bool = False

    @classmethod
    def open(cls, conninfo: dict[str, Any], *, statement_ms: int) -> "BoundedConnection":
        """Connect. psycopg begins no transactions (`begin` does) and prepares no statements."""
        made = cls.connect(**conninfo, autocommit=True, prepare_threshold=None)
        made.cursor_factory = encoding.Utf8Cursor
        encoding.adapt(made, made.server_encoding)
        made.statement_ms = statement_ms
        made.await_statements_of(statement_ms)
        return made

    def await_statements_of(self, statement_ms: int) -> None:
        """Set the deadline slightly above the time at which a server with this statement time-out gives up."""
        self.patience = statement_ms / 1000 + _GRACE_SECONDS

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:
        """Run one call.

        Raises:
            psycopg.OperationalError: the server didn't answer in time; the connection is closed.
        """
        try:
            return super().wait(_bounded(gen, self.patience), *arguments, **options)
        except _SilentServerError:
            self.close()
            raise

    @property
    def server_encoding(self) -> str:
        """The database's encoding, by PostgreSQL's name."""
        return self.info.parameter_status("server_encoding") or "UTF8"

    @property
    def begin_statement(self) -> str:
        """The SQL that begins a transaction."""
        known = "; SET LOCAL transaction_timeout = 0" if self.info.server_version >= _TRANSACTION_TIMEOUT_SINCE else ""
        client_encoding = encoding.client_encoding(self.server_encoding)
        return _BEGIN.format(limit=self.statement_ms, encoding=client_encoding) + known


class _SilentServerError(psycopg.OperationalError):
    """The deadline of a call has passed."""


def _bounded(gen: PQGen[T], seconds: float) -> Generator[Any, Any, T]:
    """Give a call a deadline. psycopg resumes the call every 0.1 s while the socket is silent."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise _SilentServerError(f"the server has not answered for {seconds:g} s")
            wanted = gen.send(ready)
    except StopIteration as done:
        answer: T = done.value
        return answer


def driver(connection: Connection) -> BoundedConnection:
    """Return the driver's connection."""
    found = connection.connection.driver_connection
    assert isinstance(found, BoundedConnection)  # noqa: S101  the engine opens no other
    return found


def begin(connection: Connection) -> None:
    """Begin a transaction, in a new session if the old one was lost while idle in the pool."""
    session = driver(connection)
    statement, reused = session.begin_statement, session.used
    if reused:
        session.patience = _REUSE_SECONDS
    try:
        connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if not (reused and error.connection_invalidated):
            raise
        connection.exec_driver_sql(statement)  # safe to repeat: the transaction hadn't done anything yet
    session = driver(connection)
    session.used = True
    session.await_statements_of(session.statement_ms)
