"""The faults and what each kind does to a fleet."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from random import Random

from chaos.faults import messages, network, postgres, processes, redis
from chaos.fleet import Fleet
from chaos.schedule import Fault

Player = Callable[[Fleet, Random], AbstractContextManager[None]]

PLAYERS: Mapping[str, Player] = {
    **network.PLAYERS,
    **postgres.PLAYERS,
    **redis.PLAYERS,
    **messages.PLAYERS,
    **processes.PLAYERS,
}


@contextmanager
def play(fleet: Fleet, fault: Fault) -> Iterator[None]:
    """Play a fault; it starts and ends with the block."""
    with PLAYERS[fault.kind.name](fleet, Random(fault.seed)):  # noqa: S311 (replayed from the seed)
        yield
