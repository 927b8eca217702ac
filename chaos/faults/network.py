"""Faults of the network between the fleet and PostgreSQL or Redis."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random

from chaos.fleet import Fleet
from chaos.proxy import Proxy

Way = Callable[[Fleet], Proxy]


@contextmanager
def _cut(proxy: Proxy, _: Random) -> Iterator[None]:
    proxy.cut()
    yield


@contextmanager
def _half_open(proxy: Proxy, _: Random) -> Iterator[None]:
    proxy.half_open()
    yield


_ON_A_PROXY: dict[str, Callable[[Proxy, Random], AbstractContextManager[None]]] = {
    "connections cut": _cut,
    "unreachable": lambda proxy, _: proxy.unreachable(),
    "slow network": lambda proxy, random: proxy.slow(random),
    "half-open connections": _half_open,
    "network frozen": lambda proxy, _: proxy.frozen(),
    "replies lost": lambda proxy, random: proxy.losing_replies(random),
}


def _players(part: str, way: Way) -> dict[str, Callable[[Fleet, Random], AbstractContextManager[None]]]:
    def on(
        fault: Callable[[Proxy, Random], AbstractContextManager[None]],
    ) -> Callable[[Fleet, Random], AbstractContextManager[None]]:
        return lambda fleet, random: fault(way(fleet), random)

    return {f"{part}: {name}": on(fault) for name, fault in _ON_A_PROXY.items()}


PLAYERS = {
    **_players("postgres", lambda fleet: fleet.postgres_proxy),
    **_players("redis", lambda fleet: fleet.redis_proxy),
}
