"""What stands between this process and PostgreSQL: nothing, or a pooler, and which kind."""

import time
from typing import Literal

import psycopg

from backfill_tasks.engine.connection import BoundedConnection
from backfill_tasks.engine.database import Address

Between = Literal["nothing", "a session pooler", "a transaction pooler", "a pooler"]

#: How long to look, in seconds: a session pooler without a second place lets the second connection wait.
_PATIENCE = 5.0

#: How often both connections are asked. In a transaction pooler nothing keeps them apart even once.
_ROUNDS = 10

_PID = "SELECT pg_backend_pid()"


def between(address: Address, *, patience: float = _PATIENCE) -> Between:
    """Find out, by the server processes that answer two connections which are open together. Changes nothing.

    Without a pooler, the process that answers is the one that the server named when it was connected to; a pooler names
    one of its own making. In a session pooler each connection keeps its process for itself; in a transaction pooler
    both may meet the same, or one another than before. "a pooler": one whose kind could not be found out
    within `patience` seconds.

    Raises:
        psycopg.Error: the database can't be reached, refuses, or leaves the first connection unanswered for `patience`
            seconds.
    """
    deadline = time.monotonic() + patience
    with _connected(address) as one:
        own = _process(one, deadline)
        return "nothing" if own == one.info.backend_pid else _kind(address, one, deadline)


def _kind(address: Address, one: BoundedConnection, deadline: float) -> Between:
    own = _process(one, deadline)
    with _connected(address) as other:
        try:
            others = _process(other, deadline)
            for _ in range(_ROUNDS):
                if own == others or _process(one, deadline) != own or _process(other, deadline) != others:
                    return "a transaction pooler"
        except psycopg.OperationalError:  # the second connection waits for a place that the first one has
            return "a pooler"
    return "a session pooler"


def _connected(address: Address) -> BoundedConnection:
    return BoundedConnection.open(address.conninfo, statement_ms=0)


def _process(connection: BoundedConnection, deadline: float) -> int:
    """Return the server process that answers; each time in a transaction of its own."""
    connection.patience = max(deadline - time.monotonic(), 0.0)
    row = connection.execute(_PID).fetchone()
    return int(row[0]) if row else 0
