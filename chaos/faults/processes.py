"""Faults of the fleet's processes. A killed program restarts when the fault ends, as its supervisor would do."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random

from chaos.fleet import Fleet
from chaos.process import Program, send

Player = Callable[[Fleet, Random], AbstractContextManager[None]]

#: The time a worker has to stop, as in docker-compose.yml.
GRACE_SECONDS = 30.0


def _some_worker(fleet: Fleet, random: Random) -> list[Program]:
    return [random.choice(fleet.workers)]


def _killed(victims: Callable[[Fleet, Random], list[Program]]) -> Player:
    @contextmanager
    def killed(fleet: Fleet, random: Random) -> Iterator[None]:
        programs = victims(fleet, random)
        for program in programs:
            program.kill()
        yield
        for program in programs:
            program.start()

    return killed


def _stopped(victims: Callable[[Fleet, Random], list[Program]]) -> Player:
    @contextmanager
    def stopped(fleet: Fleet, random: Random) -> Iterator[None]:
        programs = victims(fleet, random)
        for program in programs:
            program.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for program in programs:
                program.signal(signal.SIGCONT)

    return stopped


def _restarted(victims: Callable[[Fleet, Random], list[Program]]) -> Player:
    @contextmanager
    def restarted(fleet: Fleet, random: Random) -> Iterator[None]:
        for program in victims(fleet, random):
            if not program.stop(seconds=GRACE_SECONDS):
                fleet.overran.append(program.name)
            program.start()
        yield

    return restarted


@contextmanager
def _child_killed(fleet: Fleet, random: Random) -> Iterator[None]:
    children = [child for worker in fleet.workers for child in worker.children()]
    send(random.sample(children, min(1, len(children))), signal.SIGKILL)
    yield


@contextmanager
def _child_stopped(fleet: Fleet, random: Random) -> Iterator[None]:
    children = [child for worker in fleet.workers for child in worker.children()]
    chosen = random.sample(children, min(1, len(children)))
    send(chosen, signal.SIGSTOP)
    try:
        yield
    finally:
        send(chosen, signal.SIGCONT)


PLAYERS: dict[str, Player] = {
    "worker: killed": _killed(_some_worker),
    "worker: child killed": _child_killed,
    "worker: all killed": _killed(lambda fleet, _: fleet.workers),
    "worker: stopped": _stopped(_some_worker),
    "worker: child stopped": _child_stopped,
    "worker: restarted": _restarted(_some_worker),
    "beat: killed": _killed(lambda fleet, _: [fleet.beat]),
    "beat: stopped": _stopped(lambda fleet, _: [fleet.beat]),
    "beat: restarted": _restarted(lambda fleet, _: [fleet.beat]),
}
