"""Detect a connection pooler between this process and PostgreSQL, and its kind."""

import time
from typing import Literal

import psycopg

from backfill_tasks.engine.connection import BoundedConnection
from backfill_tasks.engine.database import Address

Between = Literal["nothing", "a session pooler", "a transaction pooler", "a pooler"]

#: How long to probe, in seconds: a session pooler without a free slot makes the second connection wait.
_PATIENCE = 5.0

#: How often both connections are asked. A transaction pooler doesn't keep them apart even once.
_ROUNDS = 10

_PID = "SELECT pg_backend_pid()"


def between(address: Address, *, patience: float = _PATIENCE) -> Between:
    """Return what is between this process and PostgreSQL. Changes nothing.

    Compares the server processes that answer two connections opened at the same time. Without a pooler, the process
    that answers is the one the server named on connecting; a pooler names one of its own. In a session pooler each
    connection keeps its process; in a transaction pooler both may get the same one, or one of them a different one than
    before. "a pooler": its kind could not be determined within `patience` seconds.

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
        except psycopg.OperationalError:  # the second connection waits for the first one's slot
            return "a pooler"
    return "a session pooler"


def _connected(address: Address) -> BoundedConnection:
    return BoundedConnection.open(address.conninfo, statement_ms=0)


def _process(connection: BoundedConnection, deadline: float) -> int:
    """Return the server process that answers; each call is its own transaction."""
    connection.patience = max(deadline - time.monotonic(), 0.0)
    row = connection.execute(_PID).fetchone()
    return int(row[0]) if row else 0
