"""How often the forecast's interval contains the truth: simulated runs from the first lead to the last, no database.

`python -m benchmarks.forecast` prints the table of docs/forecast.md. The host is the model of its runner in both
revisions (simulator.py, drains.py), called once a minute, up to 2 s late; the bound is the tool's own code; the run
knows of the host only what the tool can read. Each run is forecast when 10, 50 and 90 % of its jobs have ended. The
simulation goes on to the end, which is the truth.

The settings are drawn at random, with one seed per run. A share of the leads makes no job, so how many jobs are to come
is an estimate, as it is in reality. Not modelled: workspaces with other priorities, and jobs that take time.
"""

import argparse
import math
import random
import statistics
import sys
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

from backfill_tasks.engine.outcome import Ends, bucket_seconds
from backfill_tasks.forecast.answer import Forecast
from backfill_tasks.forecast.paths import Left
from backfill_tasks.forecast.road import forecast
from backfill_tasks.forecast.situation import Drain, Scoring, Situation
from backfill_tasks.options import Pace
from benchmarks import drains
from benchmarks.report import Line
from benchmarks.simulator import Runner, arrivals

_PERIOD, _LATE = 60.0, 2.0
_LEAD_SECONDS = 5.0
MOMENTS = (0.1, 0.5, 0.9)

#: The share of leads that make a job, and the attempts of a job.
_SHARE, _ATTEMPTS = 0.7, 3

#: The first seed of the table. The model's constants were chosen by runs with smaller ones.
_FIRST_SEED = 1_000

#: A run that has not ended after so many minutes never does: two weeks.
_MOST_MINUTES = 20_000

Level = Callable[[int], float]
"""A value by minute."""


@dataclass(frozen=True)
class Setting:
    """A host and a run.

    Attributes:
        family: the name of the settings that it is one of.
        runner: the host's revision.
        limit: how many jobs a call takes, by minute; 0: no call.
        live: the average number of live jobs, by minute.
        jobs: how many jobs the run will have.
        seed: picks one of many runs with the same averages.
        max_pending: the bound.
        per_minute: `--jobs-per-minute`.
        fails: the share of attempts that fail.
        paused: the minutes in which the run is paused: first and last.
        here: how many of our jobs our own workers do a minute.
        pays_for: how many jobs the budget of our own workers pays for.
    """

    family: str
    runner: Runner
    limit: Level
    live: Level
    jobs: int
    seed: int
    max_pending: int | Literal["auto"] | None = "auto"
    per_minute: float | None = None
    fails: float = 0.0
    paused: tuple[int, int] = (0, 0)
    here: float = 0.0
    pays_for: float = math.inf


# ---- the simulation


@dataclass
class Log:
    """What the tool could have read, by time."""

    ended: list[float] = field(default_factory=list)
    enqueued: list[tuple[float, int]] = field(default_factory=list)
    bounds: list[tuple[float, Drain]] = field(default_factory=list)
    scored_here: list[float] = field(default_factory=list)
    finished: bool = False


class Road:
    """A run beside a host, minute by minute."""

    def __init__(self, setting: Setting) -> None:
        self._set = setting
        self._chance = random.Random(setting.seed)  # noqa: S311  nothing is kept secret
        self._host = drains.Host(setting.runner)
        self._run = drains.Run(self._host, self._chance, setting.jobs)
        self._attempts: dict[drains.Job, int] = {}
        self._due, self._pays_for, self._owed = 0.0, setting.pays_for, 0.0
        self._live: deque[drains.Job] = deque()
        self.log = Log()

    def drive(self) -> Log:
        """Simulate until every job has ended, or never."""
        for minute in range(1, _MOST_MINUTES):
            self._minute(minute)
            if len(self.log.ended) >= self._set.jobs:
                self.log.finished = True
                break
            if not self._pays_for and not self._set.limit(minute):
                break  # no host, and no money left
        return self.log

    def _minute(self, minute: int) -> None:
        at = minute * _PERIOD + self._chance.uniform(0, _LATE)
        self._arrive(minute)
        is_paused = self._set.paused[0] <= minute < self._set.paused[1]
        if self._run.leads and not is_paused:
            self._enqueue(minute)
            self.log.enqueued.append((at, self._set.jobs - int(self._run.leads)))
        if self._set.here:
            self._score_here(minute)
        limit = round(self._set.limit(minute))
        if limit:
            self._host.call(at, limit)
            for each in self._host.taken:
                self._end(each, at)
        self.log.bounds.append((at, self._known()))

    def _arrive(self, minute: int) -> None:
        times = arrivals([self._set.live(minute)], self._chance.randrange(2**32)) if self._set.live(minute) else []
        for each in times:
            home = self._chance.choices(range(len(drains.WORKSPACES)), drains.WORKSPACES)[0]
            self._host.waiting.append(drains.Job((minute - 1) * _PERIOD + each, home, ours=False))

    def _enqueue(self, minute: int) -> None:
        at = minute * _PERIOD - _LEAD_SECONDS + self._chance.uniform(0, _LATE)
        if self._set.per_minute is not None:
            self._spread(at, _PERIOD / self._set.per_minute)
        elif self._set.max_pending == "auto":
            self._run.decide(at)
        else:
            waiting = sum(1 for each in self._host.waiting if each.due <= at)
            room = self._run.leads if self._set.max_pending is None else self._set.max_pending - waiting
            self._add([at] * int(max(0, min(room, self._run.leads))))

    def _spread(self, at: float, spacing: float) -> None:
        """Add the jobs that come due within the next minutes, as pages with a bound on waiting jobs do."""
        times: list[float] = []
        self._due = max(self._due, at)
        while self._due < at + _PERIOD and len(times) < self._run.leads:
            self._due += spacing
            times.append(self._due)
        self._add(times)

    def _add(self, times: Sequence[float]) -> None:
        homes = self._chance.choices(range(len(drains.WORKSPACES)), drains.WORKSPACES, k=len(times))
        self._host.waiting.extend(drains.Job(at, home, ours=True) for at, home in zip(times, homes, strict=True))
        self._run.leads -= len(times)

    def _end(self, job: drains.Job, at: float) -> None:
        """End a job of ours, or have it tried again."""
        if not job.ours:
            return
        tries = self._attempts[job] = self._attempts.get(job, 0) + 1
        if self._chance.random() < self._set.fails and tries < _ATTEMPTS:
            job.due = at + min(900.0, 2.0**tries) + self._chance.random()
            self._host.waiting.append(job)
        else:
            self.log.ended.append(at)

    def _score_here(self, minute: int) -> None:
        """Let our own workers do their jobs of a minute, as evenly as they do."""
        self._owed += self._set.here * self._chance.uniform(0.7, 1.3)
        ours = [each for each in self._host.waiting if each.ours][: int(min(self._owed, self._pays_for))]
        self._owed -= int(self._owed)
        if not self._pays_for:
            return
        gone = set(ours)
        self._host.waiting = [each for each in self._host.waiting if each not in gone]
        self._pays_for -= len(ours)
        times = sorted(minute * _PERIOD - self._chance.uniform(0, _PERIOD) for _ in ours)
        self.log.ended += times
        self.log.scored_here += times
        self.log.ended.sort()

    def _known(self) -> Drain:
        bound = self._run.bound
        if self._set.max_pending != "auto" or not bound.judged:
            return Drain(_PERIOD)
        return Drain(_PERIOD, bound.live_per_call, bound.capacity, None if bound.growing else bound.capacity)


# ---- the forecasts


@dataclass(frozen=True)
class Asked:
    """A forecast and the truth: the seconds that it took from then on; infinite: it never ended."""

    family: str
    moment: float
    told: Forecast
    truth: float

    @property
    def is_told(self) -> bool:
        """Whether there is an interval, or the forecast says that there is no end."""
        return self.told.state in ("told", "never")

    @property
    def is_right(self) -> bool:
        """Whether the interval contains the truth."""
        earliest, latest = self.told.earliest_seconds, self.told.latest_seconds
        if earliest is None or latest is None:
            return self.told.state == "never" and math.isinf(self.truth)
        return earliest <= self.truth <= latest

    @property
    def width(self) -> float | None:
        """The width of the interval, as a share of the truth; None: there is none."""
        earliest, latest = self.told.earliest_seconds, self.told.latest_seconds
        if earliest is None or latest is None or math.isinf(self.truth) or not self.truth:
            return None
        return (latest - earliest) / self.truth


def ask(setting: Setting) -> list[Asked]:
    """Simulate a run, and forecast it at each of the moments that it reached."""
    log = Road(setting).drive()
    chance = random.Random(-setting.seed)  # noqa: S311  nothing is kept secret
    found = []
    for moment in MOMENTS:
        number = math.ceil(moment * setting.jobs)
        if number > len(log.ended):
            continue
        at = log.ended[number - 1] + chance.uniform(0, _PERIOD)
        truth = log.ended[-1] - at - _paused_after(setting, at) if log.finished else math.inf
        if truth > 0:
            found.append(Asked(setting.family, moment, forecast(situation(setting, log, at)), truth))
    return found


def _paused_after(setting: Setting, at: float) -> float:
    """Return for how long the run is paused after a time. An operator's decision can't be foretold, so it isn't."""
    since, until = (each * _PERIOD for each in setting.paused)
    return max(0.0, until - max(since, at))


def situation(setting: Setting, log: Log, at: float) -> Situation:
    """Return what the tool knows of a run at a time."""
    ended = log.ended[: bisect(log.ended, at)]
    enqueued = max((jobs for time, jobs in log.enqueued if time <= at), default=0)
    width = bucket_seconds(at)
    number = math.ceil(at / width)
    ends = [0] * number
    for each in ended:
        ends[min(number - 1, int(number - (at - each) / width))] += 1
    known = [drain for time, drain in log.bounds if time <= at]
    spacing = None if setting.per_minute is None else _PERIOD / setting.per_minute
    here = len(log.scored_here[: bisect(log.scored_here, at)])
    pays_for = None if math.isinf(setting.pays_for) else setting.pays_for - here
    return Situation(
        state="running",
        waiting=enqueued - len(ended),
        ended=len(ended),
        to_come=_to_come(setting, enqueued),
        ends=Ends(width, _without_pause(setting, ends, width, at)),
        due_seconds=0.0 if spacing is None else max(0.0, enqueued * spacing + _PERIOD - _LEAD_SECONDS - at),
        spacing_seconds=spacing,
        pace=Pace(max_pending=setting.max_pending, jobs_per_minute=setting.per_minute),
        drain=known[-1] if known else Drain(_PERIOD),
        scoring=Scoring(bool(setting.here) and pays_for != 0, setting.here, pays_for, 2, 64),
    )


def _to_come(setting: Setting, enqueued: int) -> Left:
    """Estimate how many jobs are to come from the share of leads that made one, as `Run.jobs_to_come` does."""
    chance = random.Random(setting.seed + enqueued)  # noqa: S311  nothing is kept secret
    coming = setting.jobs - enqueued
    if not coming:
        return Left(0.0)
    read = max(1, enqueued) / _SHARE  # our own workers may end a job before its page is logged
    share = _SHARE + chance.gauss(0, math.sqrt(_SHARE * (1 - _SHARE) / read))
    left = coming / _SHARE
    return Left(left * share, left * math.sqrt(share * (1 - share) / read))


def _without_pause(setting: Setting, ends: Sequence[int], width: float, at: float) -> list[int]:
    """Leave out the buckets in which the run was paused and none of its jobs ended."""
    since, until = (each * _PERIOD for each in setting.paused)
    starts = [at - (len(ends) - place) * width for place in range(len(ends))]
    return [each for each, start in zip(ends, starts, strict=True) if each or not since <= start < until - width]


# ---- the settings


def _base(family: str, seed: int) -> tuple[random.Random, Setting]:
    """Draw a host with a steady drain and a steady live load, and a run of some hours to some days."""
    chance = random.Random(f"{family} {seed}")  # noqa: S311  nothing is kept secret
    limit = chance.choice([10, 10, 20, 20, chance.randint(1, 200)])
    load = chance.choice([0.0, 0.3, 0.6, 0.8])
    live = load * limit
    jobs = round((limit - live) * 60 * math.exp(chance.uniform(math.log(1.5), math.log(36))))
    runner: Runner = chance.choice(["older", "newer"])
    jobs = max(60, min(jobs, 12_000))
    return chance, Setting(family, runner, lambda _: limit, lambda _: live, jobs, seed)


def steady(seed: int) -> Setting:
    """A drain and a live load that stay as they are."""
    return _base("steady", seed)[1]


def bounded(seed: int) -> Setting:
    """A constant bound on waiting jobs, below or above what the host takes."""
    chance, base = _base("bounded", seed)
    limit = base.limit(0)
    most = max(2, round(limit * chance.uniform(0.5, 1.5)))
    return replace(base, max_pending=most, live=lambda _: min(base.live(0), 0.6 * most))


def unbounded(seed: int) -> Setting:
    """Every job is due at once."""
    return replace(_base("unbounded", seed)[1], max_pending=None)


def spread(seed: int) -> Setting:
    """Due times spread by --jobs-per-minute, at most what the host can take, or more."""
    chance, base = _base("spread", seed)
    spare = base.limit(0) - base.live(0)
    return replace(base, max_pending=None, per_minute=max(0.5, spare * chance.uniform(0.4, 1.3)))


def busy(seed: int) -> Setting:
    """A live load of 90 to 95 %."""
    chance, base = _base("busy", seed)
    limit = max(10, base.limit(0))
    live = limit * chance.uniform(0.9, 0.95)
    minutes = chance.uniform(240, 1_440)
    return replace(base, limit=lambda _: limit, live=lambda _: live, jobs=round(minutes * (limit - live)))


def bursts(seed: int) -> Setting:
    """Live jobs in bursts: one hour of four, a fifth of the time at random, or by day and night."""
    chance, base = _base("bursts", seed)
    limit, calm = base.limit(0), base.limit(0) * chance.uniform(0.1, 0.4)
    high = limit * chance.uniform(0.8, 1.2)
    kind = chance.choice(["hours", "random", "days"])
    starts = [chance.random() for _ in range(_MOST_MINUTES // 20)]

    def live(minute: int) -> float:
        if kind == "hours":
            return high if minute % 240 >= 180 else calm  # noqa: PLR2004
        if kind == "days":
            return calm + (0.9 * limit - calm) * max(0.0, math.sin(2 * math.pi * minute / 1_440))
        return high if starts[minute // 20] < 0.2 else calm  # noqa: PLR2004

    return replace(base, live=live, jobs=max(base.jobs, min(12_000, round(8 * 60 * (limit - calm)))))


def steps(seed: int) -> Setting:
    """A host that is reconfigured once, at any time of the run: up to twice or half as many jobs a call."""
    chance, base = _base("steps", seed)
    limit, live = base.limit(0), 0.5 * base.live(0)
    minutes = base.jobs / max(1.0, limit - live)
    at, to = chance.uniform(0, minutes), max(1, round(limit * math.exp(chance.uniform(-math.log(2), math.log(2)))))
    return replace(base, limit=lambda minute: to if minute >= at else limit, live=lambda _: min(live, 0.5 * to))


def drifts(seed: int) -> Setting:
    """A drain that becomes faster or slower all the time, up to twice or half as fast at the end."""
    chance, base = _base("drifts", seed)
    limit, load = max(10, base.limit(0)), base.live(0) / base.limit(0)
    minutes = base.jobs / (limit * (1 - load))
    slope = chance.uniform(-math.log(2), math.log(2)) / minutes

    def drifting(minute: int) -> float:
        return limit * math.exp(slope * min(minute, minutes))

    return replace(base, limit=drifting, live=lambda minute: load * drifting(minute))


def failing(seed: int) -> Setting:
    """Attempts that fail, 5 to 40 %, each job up to three times."""
    chance, base = _base("failing", seed)
    return replace(base, fails=chance.uniform(0.05, 0.4))


def stops(seed: int) -> Setting:
    """A host that isn't called for an hour, once or twice."""
    chance, base = _base("stops", seed)
    limit, live = min(30, base.limit(0)), min(30, base.limit(0)) * base.live(0) / base.limit(0)
    minutes = chance.uniform(8, 48) * 60
    base = replace(base, live=lambda _: live, jobs=round(minutes * (limit - live)))
    begins = [chance.uniform(0, minutes) for _ in range(chance.choice([1, 1, 2]))]
    return replace(base, limit=lambda minute: 0 if any(0 <= minute - each < 60 for each in begins) else limit)  # noqa: PLR2004


def here(seed: int) -> Setting:
    """Our own workers score beside the host's runner, or alone, with a budget or without."""
    chance, base = _base("here", seed)
    pace = base.limit(0) * chance.uniform(1, 5)
    pays_for = chance.choice([math.inf, math.inf, round(base.jobs * chance.uniform(0.3, 0.9)), round(base.jobs * 1.5)])
    alone = chance.random() < 0.5  # noqa: PLR2004
    limit: Level = (lambda _: 0.0) if alone else base.limit
    jobs = max(200, min(base.jobs, round(pace * 300)))
    return replace(base, max_pending=None, here=pace, pays_for=pays_for, limit=limit, jobs=jobs)


def paused(seed: int) -> Setting:
    """A run that has been paused for a while, at any time."""
    chance, base = _base("paused", seed)
    minutes = base.jobs / max(1.0, base.limit(0) - base.live(0))
    since = round(chance.uniform(0.02, 0.9) * minutes)
    return replace(base, paused=(since, since + round(chance.uniform(0.1, 1) * minutes)))


FAMILIES = (steady, bounded, unbounded, spread, busy, bursts, steps, drifts, failing, stops, here, paused)


# ---- the table


def coverage(found: Iterable[Asked]) -> float:
    """Return the share of right forecasts among those that were told."""
    told = [each for each in found if each.is_told]
    return sum(each.is_right for each in told) / len(told) if told else math.nan


def table(found: Sequence[Asked]) -> list[str]:
    """Return the table in Markdown: coverage by family and moment, and the median width."""
    moments = [f"at {moment:.0%}" for moment in MOMENTS]
    head = ["settings", "forecasts", *moments, "all", *(f"width {each}" for each in moments)]
    by_family: Mapping[str, list[Asked]] = {
        make.__name__: [each for each in found if each.family == make.__name__] for make in FAMILIES
    }
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, asked in [*by_family.items(), ("**all**", list(found))]:
        at = [[each for each in asked if each.moment == moment] for moment in MOMENTS]
        widths = [[each.width for each in some if each.width is not None] for some in at]
        cells = [
            name,
            f"{sum(each.is_told for each in asked)} of {len(asked)}",
            *(f"{coverage(some):.0%}" for some in at),
            f"{coverage(asked):.0%}",
            *(f"{statistics.median(some):.0%}" if some else "" for some in widths),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=12, help="simulated runs of each family (default: 12)")
    sys.stdout.write("\n".join(table(simulated(parser.parse_args().runs))) + "\n")
    return 0


def measure(runs: int = 12) -> list[Line]:
    """Measure the share of intervals that contain the truth, in all and by family, and their median width."""
    found = simulated(runs)
    widths = [each.width for each in found if each.width is not None]
    families = {make.__name__: [each for each in found if each.family == make.__name__] for make in FAMILIES}
    return [
        Line("contain the truth", [100 * coverage(found)], 80, unit="%"),
        *(Line(f"contain the truth: {name}", [100 * coverage(some)], 70, unit="%") for name, some in families.items()),
        Line("width / truth, median", [100 * statistics.median(widths)], 60, "less", unit="%"),
    ]


def simulated(runs: int) -> list[Asked]:
    """Simulate so many runs of each family, and forecast each."""
    numbers = [(make.__name__, _FIRST_SEED + run) for make in FAMILIES for run in range(runs)]
    with ProcessPoolExecutor(2) as pool:
        return [each for some in pool.map(_asked, numbers, chunksize=4) for each in some]


def _asked(one: tuple[str, int]) -> list[Asked]:
    family, seed = one
    return ask(next(make for make in FAMILIES if make.__name__ == family)(seed))


if __name__ == "__main__":
    sys.exit(main())
