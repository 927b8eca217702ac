"""Faults that several tests share; each ends with its block."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chaos.process import send

if TYPE_CHECKING:
    import redis


@contextmanager
def suspended(*processes: int) -> Iterator[None]:
    """Suspend processes, like Ctrl-Z: a suspended server accepts connections but never answers."""
    send(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        send(processes, signal.SIGCONT)


@contextmanager
def made_a_replica(client: "redis.Redis") -> Iterator[None]:
    """Make a Redis a replica, as in a failover: it answers, but refuses every write."""
    client.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        client.replicaof("no", "one")
