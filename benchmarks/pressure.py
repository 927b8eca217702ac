"""How long a page waits for the indicators: all of them, queried as before a page, at rest and alongside a run."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from backfill_tasks import settings
from backfill_tasks.engine.admission.indicators import Indicator
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.options import Pace
from backfill_tasks.registry import DEFAULT
from backfill_tasks.wiring import Parts, assemble
from benchmarks import tool
from benchmarks.host import Host
from benchmarks.report import Line
from benchmarks.simulator import quantile
from benchmarks.walk import BenchmarkError

#: The target: "a few milliseconds".
_TARGET_MS = 5.0

_ALONE_SECONDS = 10.0
#: The pause between two measurements: several times as long as one takes, so that most of the time no query runs.
_PAUSE_SECONDS = 0.02


def measure(host: Host, redis_url: str, *, limit: int) -> list[Line]:
    """Measure how many milliseconds all indicators take together, at rest and while two lanes run at full speed."""
    with host.copy() as url, tool.started(url, redis_url, children=2) as started:
        started.init()
        parts = assemble(settings.load({"DATABASE_URL": url, "REDIS_URL": redis_url}), _send_nothing)
        with _asking(parts) as alone:
            time.sleep(_ALONE_SECONDS)
        with _asking(parts) as beside:
            started.run(lanes=2, limit=limit)
    return [
        Line("at rest: median", [quantile(alone, 0.5)], _TARGET_MS, "less", "ms"),
        Line("at rest: p99", [quantile(alone, 0.99)], unit="ms"),
        Line("alongside 2 lanes: median", [quantile(beside, 0.5)], unit="ms"),
        Line("alongside 2 lanes: p99", [quantile(beside, 0.99)], unit="ms"),
        Line("asked", [len(alone) + len(beside)], unit=""),
    ]


@contextmanager
def _asking(parts: Parts) -> Iterator[list[float]]:
    """Query the indicators while the block runs; afterwards the list has the durations in milliseconds, sorted."""
    ended, times = threading.Event(), list[float]()
    own = parts.backfills[DEFAULT].indicators(Pace(max_live_wait=180))
    ask = partial(_ask, parts, [*own, *parts.pressure.indicators])
    thread = threading.Thread(target=_repeat, args=(ask, ended, times))
    thread.start()
    try:
        yield times
    finally:
        ended.set()
        thread.join()
        times.sort()
    if not times:
        raise BenchmarkError("no indicator was queried")


def _repeat(ask: Callable[[], float], ended: threading.Event, times: list[float]) -> None:
    while not ended.wait(_PAUSE_SECONDS):
        times.append(ask())


def _ask(parts: Parts, indicators: list[Indicator]) -> float:
    """Query under a page's planner settings, in a transaction that has begun; return the milliseconds."""
    with parts.engine.begin() as connection:
        begin_read_only(connection, statement_ms=60_000)
        began = time.perf_counter()
        parts.pressure.readings(connection, indicators)
        return 1000 * (time.perf_counter() - began)


def _send_nothing(_message: object, _seconds: float) -> None:
    """Do nothing: this process sends no pages."""
