"""The self-sizing bound beside `backfill work` or `backfill drain`: hours of the host's time, without a database.

`python -m benchmarks.beside` prints a table of docs/beside-a-live-host.md. As in drains.py, the tool's own code sizes
the bound, and the host is a model of its runner, called once a minute. Every two hours, the helper starts or stops:

- *work*: our own scorers look for jobs every 2 s and take the oldest of ours that are due, so many a minute at most;
- *drain*: while a job of ours is due, the runner is called every 10 s as well, each time slightly later.

A page comes up to 2 s after its moment. One that was denied asks again after 5 s, or just before the next call.
"""

import heapq
import math
import random
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count

from backfill_tasks.engine.admission.bound import Bound, Measurement, observe
from backfill_tasks.engine.admission.rhythm import Rhythm
from benchmarks.drains import Host, Job
from benchmarks.simulator import Runner, arrivals, quantile

_PERIOD, _LEAD_SECONDS, _MIN_SHARE = 60.0, 5.0, 0.05
_LATE_CALL, _LATE_PAGE = 2.0, 2.0
_ASK_SECONDS, _PAGE_SECONDS, _LOOK_SECONDS = 5.0, 0.3, 2.0
_DRAIN_SECONDS, _DRIFT_SECONDS = 10.0, 0.05
_MARGIN_SECONDS = 1.0

_HOURS, _EACH_SECONDS = 12, 7_200.0
_WORKSPACES = [1 / (1 + each) for each in range(12)]
_SEEDS = (1, 2, 3)
_SHARE, _WITHIN_MINUTES = 0.8, 5


@dataclass
class SharedHost(Host):
    """A host whose runner is called at any time, and whose queue our own scorers share."""

    begun: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=1_000))
    here: deque[float] = field(default_factory=lambda: deque(maxlen=4_000))
    is_hurried: bool = False
    hurried: float = 0.0

    def call(self, at: float, limit: int) -> None:
        """Take due jobs, up to the limit."""
        super().call(at, limit)
        self.begun.extend((at, each.ours) for each in self.taken)

    def lose(self, at: float, most: int) -> int:
        """Let our own scorers take our oldest due jobs, and return how many."""
        due = sorted((each for each in self.waiting if each.ours and each.due <= at), key=lambda each: each.due)[:most]
        taken = set(due)
        self.waiting = [each for each in self.waiting if each not in taken]
        self.here.extend(at for _ in due)
        return len(due)

    def measure(self, at: float, *, since: float, until: float) -> Measurement:
        """Return what the tool measures."""
        around = since - _MARGIN_SECONDS
        taken = [ours for begun, ours in self.begun if begun >= around]
        here = sum(begun >= around for begun in self.here)
        measured = super().measure(at, since=since, until=until)
        waits = tuple(each for each in measured.waits if each[1] > self.hurried)
        every = _DRAIN_SECONDS if self.is_hurried else None
        return replace(measured, taken=len(taken), taken_ours=sum(taken), waits=waits, here=here, every=every)


@dataclass
class Run:
    """A run that never lacks leads, as admission/sizing.py sizes its pages."""

    host: SharedHost
    chance: random.Random
    bound: Bound = field(default_factory=lambda: Bound(Rhythm(_PERIOD, 0.0)))

    def ask(self, at: float) -> float:
        """Ask for admission of a page, and return when to ask again."""
        opens = self.bound.opens(at, _LEAD_SECONDS)
        if opens > at and not self.bound.shared:
            return min(opens, at + _ASK_SECONDS) + self.chance.uniform(0, _LATE_PAGE)
        until = self.bound.calls.following(at)
        measured = self.host.measure(at, since=self.bound.since(at), until=until)
        if opens <= at:
            self.bound = observe(self.bound, measured, min_share=_MIN_SHARE, usual_seconds=_PERIOD)
        free, owed = self.bound.room(measured), self.bound.owed
        if owed > max(0, free):
            self.bound = self.bound.pay(owed)
        elif free < 0:
            ours = [each for each in self.host.waiting if each.ours and each.due <= until]
            for each in ours[max(0, len(ours) + free) :]:
                each.due = until + self.bound.calls.seconds - _LEAD_SECONDS
        jobs = max(0, free, owed)
        homes = self.chance.choices(range(len(_WORKSPACES)), _WORKSPACES, k=jobs)
        self.host.waiting.extend(Job(at, home, ours=True) for home in homes)
        if jobs:
            return at + _PAGE_SECONDS
        return min(opens if opens > at else at + _ASK_SECONDS, at + _ASK_SECONDS) + self.chance.uniform(0, _LATE_PAGE)


@dataclass(frozen=True)
class Case:
    """A helper beside a run: `work` with so many jobs a minute, or `drain` (0)."""

    helper: str
    runner: Runner
    limit: int
    live: float
    per_minute: int = 0

    def helps(self, at: float) -> bool:
        """Return whether the helper is on."""
        return at % (2 * _EACH_SECONDS) >= _EACH_SECONDS

    def row(self) -> str:
        """Simulate the days and return the row in Markdown."""
        alone = sorted(wait for seed in _SEEDS for _, wait in self.day(seed, beside=False).waits)
        days = [self.day(seed, beside=True) for seed in _SEEDS]
        ratios = []
        for helps in (False, True):
            waits = sorted(wait for day in days for at, wait in day.waits if self.helps(at) is helps)
            ratios.append(f"{quantile(waits, 0.99) / quantile(alone, 0.99):.2f}")
        done = [sum(day.rate(self, helps=helps) for day in days) / len(days) for helps in (False, True)]
        followed = max(day.followed(self, done) for day in days)
        cells = [self.helper, self.runner, str(self.limit), f"{self.live / self.limit:.0%}"]
        paces = [f"{each:,.0f}" for each in done]
        return f"| {' | '.join([*cells, *paces, *ratios, str(followed)])} |"

    def day(self, seed: int, *, beside: bool) -> "Day":
        """Simulate a day. Without a run there is no job of ours, so no helper does anything."""
        chance = random.Random(seed)  # noqa: S311 (nothing is kept secret)
        minutes = _HOURS * 60
        host, day = SharedHost(self.runner), Day(minutes)
        run = Run(host, chance)
        order = count()
        live = arrivals([self.live] * minutes, seed)
        homes = random.Random(-seed).choices(range(len(_WORKSPACES)), _WORKSPACES, k=len(live))  # noqa: S311
        events = [(at, next(order), "live") for at in live]
        events += [(60.0 * n + chance.uniform(0, _LATE_CALL), next(order), "cron") for n in range(1, minutes + 1)]
        events += [(each, next(order), name) for name, each in self._helper(minutes)] if beside else []
        events += [(1.0, next(order), "page")] if beside else []
        heapq.heapify(events)
        coming = iter(homes)
        while events:
            at, _, name = heapq.heappop(events)
            if name == "live":
                host.waiting.append(Job(at, next(coming), ours=False))
            elif name == "page":
                host.is_hurried = self.helper == "drain" and self.helps(at)
                if (again := run.ask(at)) < 60.0 * minutes:
                    heapq.heappush(events, (again, next(order), "page"))
            elif name == "work":
                most = math.floor(self.per_minute * _LOOK_SECONDS / 60 + chance.random())
                day.count(at, host.lose(at, most))
            elif name == "cron" or any(each.ours and each.due <= at for each in host.waiting):
                host.hurried = at if name == "drain" else host.hurried
                host.call(at, self.limit)
                day.count(at, sum(each.ours for each in host.taken))
                day.waits += [(each.due, at - each.due) for each in host.taken if not each.ours]
        return day

    def _helper(self, minutes: int) -> Iterator[tuple[str, float]]:
        step = _LOOK_SECONDS if self.helper == "work" else _DRAIN_SECONDS + _DRIFT_SECONDS
        at = 0.0
        while at < 60.0 * minutes:
            if self.helps(at):
                yield self.helper, at
            at += step


@dataclass
class Day:
    """The result of a simulation: the live jobs' arrivals and waits, and our jobs done in each minute."""

    minutes: int
    waits: list[tuple[float, float]] = field(default_factory=list)
    ours: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ours = [0] * (self.minutes + 1)

    def count(self, at: float, jobs: int) -> None:
        """Count our jobs that are done."""
        self.ours[min(int(at // 60), self.minutes)] += jobs

    def rate(self, case: Case, *, helps: bool) -> float:
        """Return our jobs done a minute while the helper is on or off, without the ten minutes after each change."""
        each = _EACH_SECONDS / 60
        chosen = [n for n in range(self.minutes) if n % each >= 10 and case.helps(60.0 * n) is helps]  # noqa: PLR2004
        return sum(self.ours[n] for n in chosen) / len(chosen)

    def followed(self, case: Case, paces: list[float]) -> int:
        """Return after how many minutes the pace has reached 80 % of the new one, at most: both up and down."""
        slowest = 0
        for change in range(int(_EACH_SECONDS // 60), self.minutes, int(_EACH_SECONDS // 60)):
            before, after = paces if case.helps(60.0 * change) else reversed(paces)
            enough = before + _SHARE * (after - before)
            sign = 1 if after > before else -1
            reached = next((n for n in range(60) if sign * self.ours[change + n] >= sign * enough), 60)
            slowest = max(slowest, reached + 1)
        return slowest


def cases() -> list[Case]:
    """Return all rows of the table."""
    runners: tuple[Runner, ...] = ("older", "newer")
    work = [Case("work", each, 20, 12, pace) for each in runners for pace in (10, 60, 600)]
    drain = [Case("drain", each, limit, 0.6 * limit) for each in runners for limit in (10, 20)]
    return [*work, *drain]


def main() -> int:
    """Print the table."""
    head = ["helper", "runner", "jobs a call", "live load", "ours a minute, off", "on", "p99 off", "on", "followed in"]
    sys.stdout.write(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}\n")
    with ProcessPoolExecutor(2) as pool:
        for row in pool.map(Case.row, cases()):
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
