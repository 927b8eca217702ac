"""Turns a seed into a schedule. The same seed yields the same schedule; only the machine's timing differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Part = Literal["postgres", "redis", "workers", "beat"]
Anchor = Literal["recovery", "end", "start"]
Command = Literal["pause", "tune"]

FAULTS = 15

#: The share of faults that don't wait for the recovery, and the share that may overlap the previous fault.
HASTY, OVERLAPPING = 0.5, 0.25


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: its name in the report.
        part: what it hits; two faults never hit the same part at once.
        shortest: its minimum duration in seconds; 0: it is over at once.
        longest: its maximum duration in seconds.
        blinds: `status` can't answer while it lasts, because it needs PostgreSQL.
    """

    name: str
    part: Part
    shortest: float = 0.0
    longest: float = 0.0
    blinds: bool = False


KINDS: tuple[Kind, ...] = (
    Kind("postgres: connections cut", "postgres"),
    Kind("postgres: unreachable", "postgres", 3, 12, blinds=True),
    Kind("postgres: slow network", "postgres", 4, 12, blinds=True),
    Kind("postgres: half-open connections", "postgres"),
    Kind("postgres: network frozen", "postgres", 4, 20, blinds=True),
    Kind("postgres: replies lost", "postgres", 3, 8, blinds=True),
    Kind("postgres: sessions terminated", "postgres"),
    Kind("postgres: fast restart", "postgres", 0.5, 5, blinds=True),
    Kind("postgres: immediate restart", "postgres", 0.5, 5, blinds=True),
    Kind("postgres: stopped", "postgres", 3, 15, blinds=True),
    Kind("postgres: read-only", "postgres", 4, 20),
    Kind("postgres: out of connections", "postgres", 4, 15, blinds=True),
    Kind("postgres: disk full", "postgres", 4, 15),
    Kind("redis: connections cut", "redis"),
    Kind("redis: unreachable", "redis", 3, 12),
    Kind("redis: slow network", "redis", 4, 12),
    Kind("redis: half-open connections", "redis"),
    Kind("redis: network frozen", "redis", 4, 20),
    Kind("redis: replies lost", "redis", 3, 8),
    Kind("redis: emptied", "redis"),
    Kind("redis: restarted", "redis", 0.5, 5),
    Kind("redis: restarted empty", "redis", 0.5, 5),
    Kind("redis: became a replica", "redis", 4, 15),
    Kind("redis: out of memory", "redis", 4, 15),
    Kind("redis: too few replicas", "redis", 4, 15),
    Kind("redis: frozen", "redis", 3, 9),
    Kind("redis: frozen beyond visibility", "redis", 12, 20),
    Kind("messages: duplicated", "redis"),
    Kind("messages: reordered", "redis"),
    Kind("messages: late", "redis", 3, 12),
    Kind("messages: malformed", "redis"),
    Kind("messages: lost", "redis"),
    Kind("worker: killed", "workers", 0.5, 4),
    Kind("worker: child killed", "workers"),
    Kind("worker: all killed", "workers", 0.5, 4),
    Kind("worker: stopped", "workers", 3, 20),
    Kind("worker: child stopped", "workers", 3, 20),
    Kind("worker: restarted", "workers"),
    Kind("beat: killed", "beat", 0.5, 4),
    Kind("beat: stopped", "beat", 3, 20),
    Kind("beat: restarted", "beat"),
)

BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a schedule.

    Attributes:
        number: its position, from 1.
        kind: its kind.
        anchor: where the gap starts: at the previous fault's recovery, end or start.
        gap: seconds from the anchor to its start.
        seconds: its duration.
        seed: for the random choices within it, such as which worker or which replies.
    """

    number: int
    kind: Kind
    anchor: Anchor
    gap: float
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Act:
    """One act of the operator: pause for some seconds, or tune the page size and the delay."""

    at: float
    command: Command
    seconds: float
    limit: int
    page_delay_ms: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything that happens to one fleet, derived from the seed."""

    seed: int
    faults: tuple[Fault, ...]
    acts: tuple[Act, ...]


def draw(
    seed: int, *, faults: int = FAULTS, kinds: Sequence[Kind] = KINDS, without: frozenset[str] = frozenset()
) -> Schedule:
    """Draw a schedule.

    Args:
        seed: the schedule's seed.
        faults: how many faults it has.
        kinds: the kinds to draw from; all of them come up before any is repeated.
        without: names of kinds that this machine can't play. The seed's other faults keep their places.
    """
    random = Random(seed)  # noqa: S311 (a schedule must be reproducible)
    deck: list[Kind] = []
    while len(deck) < faults:
        deck += random.sample(kinds, len(kinds))
    drawn: list[Fault] = []
    for number, kind in enumerate(deck[:faults], start=1):
        before = drawn[-1] if drawn else None
        drawn.append(_fault(random, number, kind, before))
    acts = tuple(_act(random, at) for at in _moments(random, faults))
    return Schedule(seed, tuple(fault for fault in drawn if fault.kind.name not in without), acts)


def _fault(random: Random, number: int, kind: Kind, before: Fault | None) -> Fault:
    draw_of_anchor, gap = random.random(), random.uniform(0.2, 4.0)
    seconds, seed = random.uniform(kind.shortest, kind.longest), random.getrandbits(32)
    anchor: Anchor = "recovery"
    if before is not None and draw_of_anchor < HASTY:
        # At most two faults at once, and never two of the same part.
        overlaps = draw_of_anchor < OVERLAPPING and before.anchor != "start" and before.kind.part != kind.part
        anchor = "start" if overlaps and gap < before.seconds else "end"
    return Fault(number, kind, anchor, round(gap, 2), round(seconds, 2), seed)


def _moments(random: Random, faults: int) -> list[float]:
    """Return the moments of the operator's acts, about one per three faults."""
    return sorted(round(random.uniform(5, 12.0 * faults), 2) for _ in range(faults // 3))


def _act(random: Random, at: float) -> Act:
    command: Command = random.choice(("pause", "tune"))
    return Act(at, command, round(random.uniform(1, 6), 2), random.randint(3, 6), random.randrange(300, 700, 50))
