"""What stands between this process and PostgreSQL: nothing, or a pooler, and which kind."""

import asyncio
from typing import Literal

import psycopg

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
        psycopg.Error: the database can't be reached, or refuses.
    """
    return asyncio.run(_between(address, patience))


async def _between(address: Address, patience: float) -> Between:
    async with await _connected(address) as one:
        if await _process(one) == one.info.backend_pid:
            return "nothing"
        try:
            return await asyncio.wait_for(_kind(address, one), patience)
        except TimeoutError:
            return "a pooler"


async def _kind(address: Address, one: "psycopg.AsyncConnection") -> Between:
    own = await _process(one)
    async with await _connected(address) as other:
        others = await _process(other)
        for _ in range(_ROUNDS):
            if own == others or await _process(one) != own or await _process(other) != others:
                return "a transaction pooler"
    return "a session pooler"


async def _connected(address: Address) -> "psycopg.AsyncConnection":
    return await psycopg.AsyncConnection.connect(**address.conninfo, autocommit=True, prepare_threshold=None)


async def _process(connection: "psycopg.AsyncConnection") -> int:
    """The server process that answers; each time a transaction of its own."""
    row = await (await connection.execute(_PID)).fetchone()
    return int(row[0]) if row else 0
