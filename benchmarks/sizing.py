"""How well the self-sizing bound follows a host's drain with the real tool: a few cells of drains.py.

The tool is the command without options, a worker, Redis and PostgreSQL; simulator.py is the host. Half an hour of the
host's time takes five minutes, without a run and at the same time with one.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg

from benchmarks import tool
from benchmarks.host import Host
from benchmarks.queue import defaults
from benchmarks.report import Line
from benchmarks.simulator import Day, Runner, arrivals, quantile, simulate

logger = logging.getLogger("benchmarks")

#: A minute of the host takes ten seconds, so the tool adds jobs 0.8 s before a call, not 5 s.
FACTOR = 6.0

_MINUTES = 30
_SEED = 1
_CHILDREN = 2

#: The step: how many jobs a call takes after the rise, and the minutes after which it rises and falls.
_HIGH, _RISE, _FALL = 100, 10, 20
#: A rise counts as followed in the first call in which we get this share of the new spare capacity.
_FOLLOWED = 0.8

#: More than there is room for, seven in ten of them with a job.
LEADS = 6_000


@dataclass(frozen=True)
class Case:
    """A host: its runner, how many jobs a call takes by minute, and the live jobs a minute.

    `steps`: the number of jobs a call rises and falls. In half an hour, the calls until that is followed weigh too much
    for the targets on waits and use, so there is a target for their number instead.
    """

    name: str
    runner: Runner
    limit: Callable[[int], int]
    live: float
    steps: bool = False


_CASES = (
    Case("20 a call, 12 live", "older", lambda _minute: 20, 12),
    Case("60 a call, 36 live", "newer", lambda _minute: 60, 36),
    Case(
        "20, 100, 20 a call, 12 live", "newer", lambda minute: _HIGH if _RISE < minute <= _FALL else 20, 12, steps=True
    ),
)


def measure(host: Host, redis_url: str) -> list[Line]:
    """Measure the live jobs' waits without a run and beside one, and the share of the spare capacity used."""
    lines: list[Line] = []
    for case in _CASES:
        with host.copy() as without, host.copy() as within, ThreadPoolExecutor(2) as pool:
            days = [pool.submit(_alone, without, case), pool.submit(_beside, within, redis_url, case)]
            alone, beside = (each.result() for each in days)
        before, after = quantile(alone.waits, 0.99), quantile(beside.waits, 0.99)
        logger.info("%-28s p99 %.0f s, %.0f s; %.0f %% used", case.name, before, after, 100 * beside.used)
        name = f"{case.runner}, {case.name}"
        lines += [
            Line(f"{name}: median, no run", [quantile(alone.waits, 0.5)], unit="s"),
            Line(f"{name}: median beside a run", [quantile(beside.waits, 0.5)], unit="s"),
            Line(f"{name}: p99, no run", [before], unit="s"),
            Line(f"{name}: p99 beside a run", [after], unit="s"),
            *_verdict(name, case, after / before, beside),
            Line(f"{name}: late, at most", [max(alone.late, beside.late)], unit="s"),
        ]
    return lines


def _verdict(name: str, case: Case, ratio: float, beside: Day) -> list[Line]:
    used = 100 * beside.used
    if not case.steps:
        return [Line(f"{name}: ratio", [ratio], 1.25, "less"), Line(f"{name}: spare used", [used], 80, unit="%")]
    enough = _FOLLOWED * (_HIGH - case.live)
    followed = next((n for n, ours in enumerate(beside.ours[_RISE:_FALL], start=1) if ours >= enough), _FALL)
    return [
        Line(f"{name}: ratio", [ratio]),
        Line(f"{name}: spare used", [used], unit="%"),
        Line(f"{name}: rise followed in call", [followed], 5, "less", unit=""),
    ]


def _beside(url: str, redis_url: str, case: Case) -> Day:
    _empty(url)
    with tool.started(url, redis_url, children=_CHILDREN, settings=defaults(FACTOR)) as started, started.under_way():
        return _day(url, case)


def _alone(url: str, case: Case) -> Day:
    _empty(url)
    return _day(url, case)


def _empty(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute('TRUNCATE "BackgroundJob"')


def _day(url: str, case: Case) -> Day:
    live = arrivals([case.live] * _MINUTES, _SEED)
    return simulate(url, live, minutes=_MINUTES, factor=FACTOR, limit=case.limit, runner=case.runner)
