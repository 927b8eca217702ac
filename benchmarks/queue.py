"""How long live jobs wait in the host's queue: without a backfill, with this one, and with an unthrottled one.

Eight hours of the host's time (simulator.py) take eight minutes, three times with the same live jobs: 8 per minute on
average, in one hour of four nearly twice as many as in the others. The backfill is the real tool: the command without
options, a worker, Redis, PostgreSQL. It has more leads than the queue has room for.

What the tool counts in the host's minutes (its rate, its waits) is scaled with them. The time it takes itself is not:
a page of 20 ms counts as 1.2 s, so the figures are on the safe side.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from backfill_tasks.settings import VARIABLES
from benchmarks import tool
from benchmarks.host import Host
from benchmarks.report import Line
from benchmarks.simulator import Day, arrivals, quantile, simulate

logger = logging.getLogger("benchmarks")

#: One minute of the host takes one second. The tool measures again after 5 s of the host's time, which is 83 ms, and a
#: page takes some 20 ms. Any faster, and we would measure the tool's own speed.
FACTOR = 60

#: The tool's settings in units of the host's time, and the power of the factor by which their defaults are scaled.
_SCALES = {
    "BACKFILL_JOBS_PER_MINUTE": 1,
    "BACKFILL_DRAIN_SECONDS": -1,
    "BACKFILL_DRAIN_LEAD_SECONDS": -1,
    "BACKFILL_MAX_LIVE_WAIT": -1,
    "BACKFILL_PRESSURE_SECONDS": -1,
}

#: With fewer hours, the 99th percentile would rest on a few jobs and depend on the seed.
_MINUTES = 480
#: Live jobs per minute, in three of four hours and in the third one.
_CALM, _BUSY, _FOUR_HOURS, _BUSY_MINUTES = 6.5, 12.5, 240, range(120, 180)
_SEED = 1

#: Seven in ten of them get a job, more than there is room for.
LEADS = 9_000
_CHILDREN = 2


@dataclass(frozen=True)
class Case:
    """A backfill's label and settings. None: no backfill."""

    name: str
    settings: Mapping[str, str] | None


def measure(host: Host, redis_url: str) -> list[Line]:
    """Measure the live jobs' waits in each case, each on a fresh copy of the host database."""
    per_minute = [_BUSY if minute % _FOUR_HOURS in _BUSY_MINUTES else _CALM for minute in range(_MINUTES)]
    live = arrivals(per_minute, _SEED)
    days: dict[str, Day] = {}
    for case in _cases():
        with host.copy() as url, _backfill(url, redis_url, case.settings):
            days[case.name] = day = simulate(url, live, minutes=_MINUTES, factor=FACTOR)
        logger.info("%-20s p99 %5.0f s, %3.0f %% of the spare capacity used", case.name, _p99(day), 100 * day.used)
    alone, beside, behind = days.values()
    return [
        Line("live jobs", [len(live)], unit=""),
        *(line for name, day in days.items() for line in _lines(name, day)),
        Line("p99, this tool / no backfill", [_p99(beside) / _p99(alone)], 1.25, "less"),
        Line("p99, all at once / no backfill", [_p99(behind) / _p99(alone)]),
        Line("spare capacity used, this tool", [100 * beside.used], 80, unit="%"),
        Line("cron or webhook late, at most", [max(day.late for day in days.values())], unit="s"),
    ]


def defaults(factor: float) -> dict[str, str]:
    """Return the tool's default settings for a host whose time runs faster by this factor."""
    return {
        each.name: f"{float(each.default) * factor ** _SCALES[each.name]:.6g}"
        for each in VARIABLES
        if each.name in _SCALES and each.default not in {None, "none"}
    }


def _cases() -> list[Case]:
    return [Case("no backfill", None), Case("this tool", defaults(FACTOR)), Case("all at once", tool.FULL_SPEED)]


@contextmanager
def _backfill(database_url: str, redis_url: str, settings: Mapping[str, str] | None) -> Iterator[None]:
    """Keep a backfill going while the block runs, in a database whose queue was empty before."""
    with psycopg.connect(database_url) as connection:
        connection.execute('TRUNCATE "BackgroundJob"')
    if settings is None:
        yield
        return
    with tool.started(database_url, redis_url, children=_CHILDREN, settings=settings) as started, started.under_way():
        yield


def _lines(name: str, day: Day) -> list[Line]:
    return [
        Line(f"{name}: median wait", [quantile(day.waits, 0.5)], unit="s"),
        Line(f"{name}: p99", [_p99(day)], unit="s"),
        Line(f"{name}: longest", [day.waits[-1]], unit="s"),
    ]


def _p99(day: Day) -> float:
    return quantile(day.waits, 0.99)
