"""How long a webhook's transaction takes: by itself, beside a backfill, and beside whatever else could be done instead.

Three backfills: the one that an operator gets without an option, which keeps to the room in the host's queue; one at
full speed, with nothing that spreads or bounds its jobs; and one that rests between pages. The writers' own jobs fill
that queue, so the first waits for room and does next to no pages: it shows what waiting costs, and has no target.

Not modelled: a network, and a database server of its own. Here the backfill's workers, the writers and PostgreSQL share
the machine's cores, and a transaction whose next step finds no core free waits for one, for up to a scheduler's slice.
So it is measured on the shared cores, and as with cores to spare for the writers (`benchmarks.writers`); and there are
controls: processes that compute and touch neither the database nor the disk, which cost nothing where there are cores
to spare; the page statement in a plain loop, which is what every backfill in pages has to do; and one upsert a lead, as
a script does it.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import psycopg

from benchmarks import loops, tool
from benchmarks.host import Host
from benchmarks.report import Line
from benchmarks.simulator import quantile
from benchmarks.tool import Tool
from benchmarks.walk import Walk
from benchmarks.writers import can_spare_cores, writing

logger = logging.getLogger("benchmarks")

#: With what the tool itself does beside others at work: that is what is measured here.
_FULL_SPEED = {name: value for name, value in tool.FULL_SPEED.items() if name != "BACKFILL_BUSY_LIMIT"}

#: The 99th percentile beside a backfill against the one without.
_TARGET = 1.3

_WARM_SECONDS = 2.0
_ALONE_SECONDS = 6.0
_BUSY_SECONDS = 8.0
_DEFAULTS_SECONDS = 20.0
_APART_SECONDS = 40.0
_SETTLE_SECONDS = 3.0
_ONE_BY_ONE_LEADS = 25_000

_SPAN = "SELECT extract(epoch FROM started_at)::float, extract(epoch FROM finished_at)::float FROM backfill.run"

#: How long each of two lanes rests after a page, so that pages are at work for less than a hundredth of the time.
_APART_MS = 2_000

#: Computes and touches nothing; ends by itself where nobody is left to end it.
_COMPUTE = "import sys, time; end = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"


@dataclass(frozen=True)
class Stretch:
    """From when to when something was beside the writers, and how many leads a second it did; None: it does none."""

    began: float
    ended: float
    leads_per_second: float | None = None


@dataclass(frozen=True)
class Company:
    """What goes on beside the writers.

    Attributes:
        name: as the lines call it.
        keep: is beside them for a while, with a tool whose worker is ready; answers when that was.
        children: how many processes that worker has.
        settings: of the tool.
        target: how many times as long as by themselves the slowest hundredth may take.
    """

    name: str
    keep: Callable[[Tool], Stretch]
    children: int = 1
    settings: Mapping[str, str] = field(default_factory=lambda: _FULL_SPEED)
    target: float | None = None


@dataclass(frozen=True)
class Turn:
    """How long transactions took in one turn, in milliseconds, sorted.

    Attributes:
        alone: those of some seconds before and after.
        beside: those that were due while the company was there.
        leads_per_second: how fast that was.
    """

    alone: Sequence[float]
    beside: Sequence[float]
    leads_per_second: float | None


def measure(host: Host, redis_url: str, *, limit: int, repetitions: int, spare_cores: bool) -> list[Line]:
    """In turns with each company, each turn on a fresh copy of the host database.

    `spare_cores`: as with cores to spare for the writers; left out, with a line that says so, where that can't be had.
    """
    if spare_cores and not can_spare_cores(host.server_url):
        logger.info("left out: it takes root, and a PostgreSQL on this machine, to let the writers go first")
        return []
    full_speed = Company("2 lanes", partial(_keep_lanes, lanes=2, limit=limit), children=2, target=_TARGET)
    # Not counted. A server that has just started makes the files of its log while it is measured, and commits wait for
    # each; one that has been at work writes over old ones. A whole run writes the most.
    _take_turn(host, redis_url, full_speed, spare_cores=spare_cores)
    companies = _companies(full_speed, limit)
    found: dict[str, list[Turn]] = {each.name: [] for each in companies}
    for number in range(1, repetitions + 1):
        for company in companies:
            turn = _take_turn(host, redis_url, company, spare_cores=spare_cores)
            found[company.name].append(turn)
            logger.info("%d/%d  %-20s%6.2f times as long", number, repetitions, company.name, _ratio(turn))
    return [
        *_times("no company", [turn.alone for turns in found.values() for turn in turns]),
        *(line for name, turns in found.items() for line in _figures(name, turns)),
        *(
            Line(f"p99, {each.name} / none", [_ratio(turn) for turn in found[each.name]], each.target, "less")
            for each in companies
        ),
    ]


def _companies(full_speed: Company, limit: int) -> Sequence[Company]:
    return (
        Company("defaults", _keep_defaults, children=2, settings={}),
        full_speed,
        Company("2 lanes, 2 s apart", partial(_keep_apart, limit=limit), children=2, target=_TARGET),
        Company("1 lane", partial(_keep_lanes, lanes=1, limit=limit)),
        Company("bare page, 2 lanes", partial(_keep_bare, lanes=2, limit=limit)),
        Company("bare page, 1 lane", partial(_keep_bare, lanes=1, limit=limit)),
        Company("one upsert a lead", partial(_keep_one_by_one, limit=limit)),
        Company("2 busy processes", partial(_keep_busy, processes=2)),
        Company("1 busy process", partial(_keep_busy, processes=1)),
    )


def _figures(name: str, turns: Sequence[Turn]) -> Iterator[Line]:
    yield from _times(name, [turn.beside for turn in turns])
    yield Line(f"{name}: transactions", [len(turn.beside) for turn in turns], unit="")
    rates = [turn.leads_per_second for turn in turns if turn.leads_per_second is not None]
    if rates:
        yield Line(f"{name}: leads", rates, unit="/s")


def _times(name: str, turns: Sequence[Sequence[float]]) -> list[Line]:
    return [
        Line(f"{name}: median", [quantile(times, 0.5) for times in turns], unit="ms"),
        Line(f"{name}: p99", [quantile(times, 0.99) for times in turns], unit="ms"),
        Line(f"{name}: longest", [times[-1] for times in turns], unit="ms"),
    ]


def _ratio(turn: Turn) -> float:
    """The 99th percentile beside the company against the one of the same turn without."""
    return quantile(turn.beside, 0.99) / quantile(turn.alone, 0.99)


def _take_turn(host: Host, redis_url: str, company: Company, *, spare_cores: bool) -> Turn:
    """The same writers all along: what else the machine does meanwhile weighs on all that is compared."""
    with (
        host.copy() as url,
        tool.started(url, redis_url, children=company.children, settings=company.settings) as started,
        writing(url, spare_cores=spare_cores) as end,
    ):
        _pass(_WARM_SECONDS)
        before = _pass(_ALONE_SECONDS)
        beside = company.keep(started)
        after = _pass(_ALONE_SECONDS)
        times = end()
    return Turn(_within(times, before, after), _within(times, beside), beside.leads_per_second)


def _keep_defaults(started: Tool) -> Stretch:
    """A run with no option, once it has begun."""
    with started.under_way():
        _pass(_SETTLE_SECONDS)
        return _pass(_DEFAULTS_SECONDS)


def _keep_lanes(started: Tool, *, lanes: int, limit: int) -> Stretch:
    """A whole run at full speed, from its row in the ledger to its finish."""
    walk = started.run(lanes=lanes, limit=limit)
    with psycopg.connect(started.database_url) as connection:
        ((began, ended),) = connection.execute(_SPAN).fetchall()
    return Stretch(began, ended, walk.rate)


def _keep_apart(started: Tool, *, limit: int) -> Stretch:
    """A run whose two lanes rest between pages: what is left to do where the host has no core to spare."""
    with started.under_way("--lanes=2", f"--limit={limit}", f"--page-delay-ms={_APART_MS}"):
        _pass(_SETTLE_SECONDS)
        before = started.leads_read()
        stretch = _pass(_APART_SECONDS)
        return replace(stretch, leads_per_second=(started.leads_read() - before) / _APART_SECONDS)


def _keep_bare(started: Tool, *, lanes: int, limit: int) -> Stretch:
    return _just_ended(loops.bare(started.database_url, lanes=lanes, limit=limit))


def _keep_one_by_one(started: Tool, *, limit: int) -> Stretch:
    return _just_ended(loops.one_by_one(started.database_url, leads=_ONE_BY_ONE_LEADS, limit=limit))


def _just_ended(walk: Walk) -> Stretch:
    """Its own seconds only: not those in which its processes started."""
    now = time.time()
    return Stretch(now - walk.seconds, now, walk.rate)


def _keep_busy(_started: Tool, *, processes: int) -> Stretch:
    """Processes that keep a core busy each, and touch nothing."""
    command = [sys.executable, "-c", _COMPUTE, str(2 * _BUSY_SECONDS)]
    with ExitStack() as started:
        for _ in range(processes):
            process = started.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL))  # noqa: S603 (ours)
            started.callback(process.kill)
        return _pass(_BUSY_SECONDS)


def _pass(seconds: float) -> Stretch:
    """Let some seconds pass."""
    began = time.time()
    time.sleep(seconds)
    return Stretch(began, time.time())


def _within(times: Sequence[tuple[float, float]], *stretches: Stretch) -> list[float]:
    """What the transactions took that were due in one of these stretches, sorted."""
    return sorted(took for due, took in times if any(each.began <= due <= each.ended for each in stretches))
