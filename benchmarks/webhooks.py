"""How long a webhook's transaction takes: by itself, alongside a backfill, and alongside the alternatives.

Three backfills: the default, which keeps to the room in the host's queue; one at full speed, without limits on its
jobs; and one that pauses between pages. The writers' own jobs fill that queue, so the default waits for room and does
almost no pages: it shows what waiting costs, and has no target.

Not modelled: a network, and a database server of its own. Here the backfill's workers, the writers and PostgreSQL
share the machine's cores, and a transaction that finds no free core waits for one, for up to a scheduler's slice. So
we measure on shared cores, and with spare cores for the writers (`benchmarks.writers`). The controls are: processes
that compute and touch neither the database nor the disk, which cost nothing if there are spare cores; the page
statement in a plain loop, which every paged backfill has to do; and one upsert per lead, as a script does it.
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

#: Full speed, but with the tool's own reaction to a busy server, which is measured here.
_FULL_SPEED = {name: value for name, value in tool.FULL_SPEED.items() if name != "BACKFILL_BUSY_LIMIT"}

#: The target for the 99th percentile alongside a backfill, relative to the one without.
_TARGET = 1.3

_WARM_SECONDS = 2.0
_ALONE_SECONDS = 6.0
_BUSY_SECONDS = 8.0
_DEFAULTS_SECONDS = 20.0
_APART_SECONDS = 40.0
_SETTLE_SECONDS = 3.0
_ONE_BY_ONE_LEADS = 25_000

_SPAN = "SELECT extract(epoch FROM started_at)::float, extract(epoch FROM finished_at)::float FROM backfill.run"

#: The delay after a page in each of two lanes. Pages then run for less than a hundredth of the time.
_APART_MS = 2_000

#: Computes and touches nothing; ends by itself if its parent dies.
_COMPUTE = "import sys, time; end = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"


@dataclass(frozen=True)
class Stretch:
    """When something ran alongside the writers, and its leads per second; None if it handles no leads."""

    began: float
    ended: float
    leads_per_second: float | None = None


@dataclass(frozen=True)
class Company:
    """Something that runs alongside the writers.

    Attributes:
        name: its label in the table.
        keep: runs it for a while, given a tool whose worker is ready; returns when it ran.
        children: the worker's processes.
        settings: the tool's settings.
        target: the highest allowed 99th percentile, as a multiple of the writers' own.
    """

    name: str
    keep: Callable[[Tool], Stretch]
    children: int = 1
    settings: Mapping[str, str] = field(default_factory=lambda: _FULL_SPEED)
    target: float | None = None


@dataclass(frozen=True)
class Turn:
    """The durations of transactions in one turn, in milliseconds, sorted.

    Attributes:
        alone: those of some seconds before and after.
        beside: those due while the company ran.
        leads_per_second: the company's speed.
    """

    alone: Sequence[float]
    beside: Sequence[float]
    leads_per_second: float | None


def measure(host: Host, redis_url: str, *, limit: int, repetitions: int, spare_cores: bool) -> list[Line]:
    """Measure in turns with each company, each turn on a fresh copy of the host database.

    `spare_cores`: give the writers priority. If this machine doesn't allow it, log that and return no lines.
    """
    if spare_cores and not can_spare_cores(host.server_url):
        logger.info("skipped: giving the writers priority requires root and a PostgreSQL on this machine")
        return []
    full_speed = Company("2 lanes", partial(_keep_lanes, lanes=2, limit=limit), children=2, target=_TARGET)
    # A warm-up that isn't counted: a fresh server creates its log files while commits wait; later it overwrites them.
    # A whole run writes the most.
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
    """Return the 99th percentile alongside the company, relative to the one without it in the same turn."""
    return quantile(turn.beside, 0.99) / quantile(turn.alone, 0.99)


def _take_turn(host: Host, redis_url: str, company: Company, *, spare_cores: bool) -> Turn:
    """Measure one turn. The same writers run throughout, so that other load on the machine affects both sides alike."""
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
    """Keep a default run going, measured once it has started."""
    with started.under_way():
        _pass(_SETTLE_SECONDS)
        return _pass(_DEFAULTS_SECONDS)


def _keep_lanes(started: Tool, *, lanes: int, limit: int) -> Stretch:
    """Do a whole run at full speed, measured from its row in the ledger to its finish."""
    walk = started.run(lanes=lanes, limit=limit)
    with psycopg.connect(started.database_url) as connection:
        ((began, ended),) = connection.execute(_SPAN).fetchall()
    return Stretch(began, ended, walk.rate)


def _keep_apart(started: Tool, *, limit: int) -> Stretch:
    """Keep a run going whose two lanes pause between pages: the option for a host without a core to spare."""
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
    """Return the stretch of a walk that has just ended, without the start of its processes."""
    now = time.time()
    return Stretch(now - walk.seconds, now, walk.rate)


def _keep_busy(_started: Tool, *, processes: int) -> Stretch:
    """Run processes that each keep a core busy and touch nothing."""
    command = [sys.executable, "-c", _COMPUTE, str(2 * _BUSY_SECONDS)]
    with ExitStack() as started:
        for _ in range(processes):
            process = started.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL))  # noqa: S603 (ours)
            started.callback(process.kill)
        return _pass(_BUSY_SECONDS)


def _pass(seconds: float) -> Stretch:
    """Let some seconds pass; return when."""
    began = time.time()
    time.sleep(seconds)
    return Stretch(began, time.time())


def _within(times: Sequence[tuple[float, float]], *stretches: Stretch) -> list[float]:
    """Return the durations of the transactions that were due in one of these stretches, sorted."""
    return sorted(took for due, took in times if any(each.began <= due <= each.ended for each in stretches))
