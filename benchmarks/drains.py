"""How well the self-sizing bound follows a host's drain: days of the host's time in seconds, without a database.

`python -m benchmarks.drains` prints the table of docs/beside-a-live-host.md. The tool's own code sizes the bound
(engine/admission/bound.py); the host is a model of its runner, in both revisions (simulator.py), called once a minute.

Live jobs arrive at random (a Poisson process) from workspaces of very different sizes, and so do our leads. A call
comes up to 2 s late, a page up to 2 s after its moment. Not modelled: jobs that take time or fail, and a run that lacks
leads. A job waits until the call that takes it.
"""

import argparse
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from backfill_tasks.engine.admission.bound import Bound, Measurement, observe
from backfill_tasks.engine.admission.rhythm import Rhythm, Wait
from benchmarks.simulator import Runner, arrivals, chosen, quantile

_MINUTES = 1_440
_PERIOD, _LEAD_SECONDS, _MIN_SHARE = 60.0, 5.0, 0.05
_LATE_CALL, _LATE_PAGE = 2.0, 2.0
#: What a measurement returns: as backfills/lead_scoring/drain.sql.
_MARGIN_SECONDS, _ROWS, _WAITS, _RECENT_SECONDS = 1.0, 1_000, 200, 1_800.0

#: The n-th workspace has 1/n of the first one's jobs.
WORKSPACES = [1 / (1 + each) for each in range(12)]

_DRAINS, _LOADS = (5, 10, 20, 60, 200), (0.3, 0.6, 0.8, 0.95)
_LOW, _HIGH = 20, 100
_STEP_LIVE = (6, 12, 16)
#: A rise counts as followed in the first call in which we get this share of the new spare capacity.
_FOLLOWED = 0.8


@dataclass(slots=True, eq=False)
class Job:
    """A job in the queue. Only our own are ever set back, so a live job's `due` is its arrival."""

    due: float
    workspace: int
    ours: bool


@dataclass
class Day:
    """The result of a simulation: the live jobs' waits in seconds, and what the host took in each minute."""

    waits: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    ours: list[int] = field(default_factory=list)
    by_minute: list[float] = field(default_factory=list)


@dataclass
class Host:
    """The host: its queue, and a runner that is called once a minute."""

    runner: Runner
    waiting: list[Job] = field(default_factory=list)
    started: deque[Wait] = field(default_factory=lambda: deque(maxlen=_ROWS))
    taken: Sequence[Job] = ()

    def call(self, at: float, limit: int) -> None:
        """Take due jobs, up to the limit."""
        due = sorted((each for each in self.waiting if each.due <= at), key=lambda each: each.due)
        self.taken = chosen(due, limit, self.runner, lambda each: each.workspace)
        taken = set(self.taken)
        self.waiting = [each for each in self.waiting if each not in taken]
        self.started.extend((each.due, at) for each in self.taken)

    def measure(self, at: float, *, since: float, until: float) -> Measurement:
        """Return what the tool measures."""
        recent = [each for each in self.started if each[1] > at - _RECENT_SECONDS]
        due = [each for each in self.waiting if each.due <= until]
        ours = sum(each.ours for each in due)
        return Measurement(
            at=at,
            since=since,
            live=len(due) - ours,
            ours=ours,
            taken=len(self.taken),
            taken_ours=sum(each.ours for each in self.taken),
            left=sum(each.due <= since - _MARGIN_SECONDS for each in due),
            waits=recent[:: 1 + len(recent) // _WAITS],
        )


class Run:
    """A run: just before each call, it adds what the bound leaves room for, while it has leads."""

    def __init__(self, host: Host, chance: random.Random, leads: float = math.inf) -> None:
        self._host, self._chance = host, chance
        self._bound = Bound(Rhythm(_PERIOD, 0.0))
        self.leads = leads

    @property
    def bound(self) -> Bound:
        """What it knows of the host's drain."""
        return self._bound

    def decides_at(self, at: float) -> float:
        """Return when it adds jobs next."""
        return self._bound.opens(at, _LEAD_SECONDS) + self._chance.uniform(0, _LATE_PAGE)

    def decide(self, at: float) -> None:
        """Add jobs, or set some back."""
        until = self._bound.rhythm.following(at)
        measured = self._host.measure(at, since=self._bound.since(at), until=until)
        self._bound = observe(self._bound, measured, min_share=_MIN_SHARE, usual_seconds=_PERIOD)
        free, owed = self._bound.room(measured), self._bound.owed
        if owed > max(0, free):
            self._bound = self._bound.pay(owed)
        elif free < 0:
            ours = [each for each in self._host.waiting if each.ours and each.due <= until]
            for each in ours[max(0, len(ours) + free) :]:
                each.due = until + _PERIOD - _LEAD_SECONDS
        jobs = int(min(max(0, free, owed), self.leads))
        self.leads -= jobs
        homes = self._chance.choices(range(len(WORKSPACES)), WORKSPACES, k=jobs)
        self._host.waiting.extend(Job(at, home, ours=True) for home in homes)


def simulate(runner: Runner, limit: Callable[[int], int], live: float, *, beside: bool, seed: int) -> Day:
    """Simulate a day.

    Args:
        runner: the runner's revision.
        limit: how many jobs a call takes, by minute.
        live: the average number of live jobs a minute.
        beside: whether a run is in progress.
        seed: picks one of many days with the same averages.
    """
    chance, homes = random.Random(seed), random.Random(-seed)  # noqa: S311 (nothing is kept secret)
    host, day = Host(runner), Day()
    run = Run(host, chance) if beside else None
    coming = deque(Job(at, home, ours=False) for at, home in _at_homes(arrivals([live] * _MINUTES, seed), homes))
    jitter = random.Random(seed)  # noqa: S311 (nothing is kept secret)
    for minute in range(1, _MINUTES + 1):
        at = minute * _PERIOD + jitter.uniform(0, _LATE_CALL)
        if run is not None:
            decides = run.decides_at(at - _PERIOD + _LATE_CALL)
            _arrive(host, coming, decides)
            run.decide(decides)
        _arrive(host, coming, at)
        most = limit(minute)
        host.call(at, most)
        waits = [at - each.due for each in host.taken if not each.ours]
        day.waits += waits
        day.by_minute.append(max(waits, default=0.0))
        day.limits.append(most)
        day.ours.append(sum(each.ours for each in host.taken))
    day.waits += [_MINUTES * _PERIOD - each.due for each in host.waiting if not each.ours]
    return day


def _at_homes(times: Sequence[float], chance: random.Random) -> Iterator[tuple[float, int]]:
    return zip(times, chance.choices(range(len(WORKSPACES)), WORKSPACES, k=len(times)), strict=True)


def _arrive(host: Host, coming: deque[Job], until: float) -> None:
    while coming and coming[0].due <= until:
        host.waiting.append(coming.popleft())


@dataclass(frozen=True)
class Cell:
    """One row of the table: a drain and a live load, over several days. `step`: the drain rises and falls again."""

    runner: Runner
    drain: int
    live: float
    days: int
    step: bool = False

    def limit(self, minute: int) -> int:
        """Return how many jobs a call takes: the drain, or four hours of each level in turn."""
        if not self.step:
            return self.drain
        return _HIGH if minute % 480 >= 240 else _LOW  # noqa: PLR2004  four hours and eight

    def row(self) -> str:
        """Simulate the days and return the row in Markdown."""
        alone = [simulate(self.runner, self.limit, self.live, beside=False, seed=seed) for seed in self._seeds]
        beside = [simulate(self.runner, self.limit, self.live, beside=True, seed=seed) for seed in self._seeds]
        before, after = (sorted(wait for day in days for wait in day.waits) for days in (alone, beside))
        spare = sum(sum(day.limits) for day in alone) - len(before)
        used = sum(sum(day.ours) for day in beside) / spare
        ratio = quantile(after, 0.99) / quantile(before, 0.99)
        name = f"{_LOW} → {_HIGH} → {_LOW}" if self.step else f"{self.drain}"
        load = f"{self.live:g} a minute" if self.step else f"{self.live / self.drain:.0%}"
        cells = [
            self.runner,
            name,
            load,
            f"{quantile(before, 0.5):.0f} s / {quantile(after, 0.5):.0f} s",
            f"{quantile(before, 0.99):.0f} s / {quantile(after, 0.99):.0f} s",
            f"{ratio:.2f}",
            f"{used:.0%}",
            f"call {self._followed(beside)}" if self.step else "",
        ]
        return f"| {' | '.join(cells)} |"

    @property
    def _seeds(self) -> range:
        return range(1, self.days + 1)

    def _followed(self, days: Sequence[Day]) -> int:
        """Return in which call after a rise we get most of the new spare capacity, in the slowest case."""
        enough = _FOLLOWED * (_HIGH - self.live)
        slowest = 0
        for day in days:
            for up in range(1, _MINUTES):
                if day.limits[up] > day.limits[up - 1]:
                    after = next(n for n in range(_MINUTES - up) if day.ours[up + n] >= enough)
                    slowest = max(slowest, after + 1)
        return slowest


def cells(days: int) -> list[Cell]:
    """Return all rows of the table."""
    levels = [
        Cell(runner, drain, drain * load, days) for runner in ("older", "newer") for drain in _DRAINS for load in _LOADS
    ]
    steps = [Cell(runner, _LOW, live, days, step=True) for runner in ("older", "newer") for live in _STEP_LIVE]
    return [*levels, *steps]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drains", description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=3, help="simulated days for each row (default: 3)")
    days = parser.parse_args().days
    head = ["runner", "jobs a call", "live load", "median", "p99", "ratio", "spare used", "rise followed in"]
    _say(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    with ProcessPoolExecutor(2) as pool:
        for row in pool.map(Cell.row, cells(days)):
            _say(row)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
