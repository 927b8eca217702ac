"""Faults of the Redis server."""

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random
from typing import Any

from chaos.fleet import Fleet
from chaos.process import send


@contextmanager
def _emptied(fleet: Fleet, _: Random) -> Iterator[None]:
    with fleet.direct_redis() as client:
        client.flushall()
    yield


@contextmanager
def _restarted(fleet: Fleet, _: Random) -> Iterator[None]:
    fleet.redis.kill()
    yield
    fleet.redis.start()


@contextmanager
def _restarted_empty(fleet: Fleet, _: Random) -> Iterator[None]:
    fleet.redis.kill()
    yield
    shutil.rmtree(fleet.redis.home / "appendonlydir", ignore_errors=True)
    fleet.redis.start()


@contextmanager
def _replica(fleet: Fleet, _: Random) -> Iterator[None]:
    """Make Redis a replica: after a failover, a client still connected to the old primary sees READONLY."""
    with fleet.direct_redis() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


def _set(name: str, value: int) -> Callable[[Fleet, Random], AbstractContextManager[None]]:
    @contextmanager
    def configured(fleet: Fleet, _: Random) -> Iterator[None]:
        with fleet.direct_redis() as client:
            before: Any = client.config_get(name)
            client.config_set(name, value)
            try:
                yield
            finally:
                client.config_set(name, before[name])

    return configured


@contextmanager
def _frozen(fleet: Fleet, _: Random) -> Iterator[None]:
    pid = fleet.redis.pid
    send([pid], signal.SIGSTOP)
    try:
        yield
    finally:
        send([pid], signal.SIGCONT)


PLAYERS = {
    "redis: emptied": _emptied,
    "redis: restarted": _restarted,
    "redis: restarted empty": _restarted_empty,
    "redis: became a replica": _replica,
    "redis: out of memory": _set("maxmemory", 1),
    "redis: too few replicas": _set("min-replicas-to-write", 1),
    "redis: frozen": _frozen,
    "redis: frozen beyond visibility": _frozen,
}
