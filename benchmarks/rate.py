"""What the fleet's rate delivers: the workers' own events tell when pages start, under an endless backlog."""

import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis

import celeryconfig
from backfill_tasks.engine.rate import FleetRate, Rate
from benchmarks import tool
from benchmarks.report import Line
from benchmarks.walk import BenchmarkError
from sandbox.servers import create_database, drop_database

logger = logging.getLogger("benchmarks")

WORKERS = (1, 2, 4)
RATES = ("0.5/s", "5/s", "50/s")

#: The changes that are timed, in order.
CHANGES = ("50/s", "5/s", "0.5/s", "50/s", "0.5/s", "5/s")

_BACKLOG = 100
_FEED_SECONDS = 0.02

#: How long to wait after a change before a steady rate is measured, and how long a timed change is observed.
_SETTLE_SECONDS = 3.0
_CHANGE_SECONDS = 8.0


@dataclass
class Fleet:
    """Workers on a queue of their own, fed with pages of an unknown run: real deliveries that do nothing."""

    database_url: str
    redis_url: str
    directory: Path
    starts: list[float] = field(default_factory=list)
    _workers: ExitStack = field(default_factory=ExitStack)

    @property
    def rate(self) -> FleetRate:
        """The rate of this queue."""
        return FleetRate(Redis.from_url(self.redis_url, decode_responses=True), self.directory.name)

    def join(self) -> int:
        """Start one more worker, wait until it is ready, and return its process id."""
        start = partial(tool.worker, self.database_url, self.redis_url, self.directory, children=2)
        return self._workers.enter_context(start(name=f"worker-{secrets.token_hex(3)}"))

    def leave(self) -> None:
        """Stop all workers."""
        self._workers.close()

    def during(self, seconds: float) -> list[float]:
        """Return when pages started during the next `seconds`."""
        began = time.time()
        time.sleep(seconds)
        return self.between(began, began + seconds)

    def between(self, first: float, last: float) -> list[float]:
        """Return when pages started between two moments. Waits for late events."""
        time.sleep(max(0.0, last + 1.0 - time.time()))
        return sorted(start for start in tuple(self.starts) if first <= start < last)


def measure(database_url: str, redis_url: str, seconds: int) -> list[Line]:
    """Measure each rate with each number of workers, each rate across a join and a kill, and changes of the rate."""
    lines: list[Line] = []
    for workers in WORKERS:
        with _fleet(database_url, redis_url, workers) as fleet:
            for rate in RATES:
                _set(fleet, rate)
                lines += _lines(f"{rate}, {workers} worker{'s' * (workers > 1)}", rate, fleet.during(seconds))
    with _fleet(database_url, redis_url, 2) as fleet:
        for rate in RATES:
            _set(fleet, rate)
            lines += _lines(f"{rate}, a join and a kill", rate, _disturbed(fleet, seconds))
        lines.append(Line("slowest change of the rate", [max(_changes(fleet))], 2, "less", "s"))
    return lines


def most_in_a_second(starts: Sequence[float]) -> int:
    """Return the most starts in any window of one second."""
    return max((bisect_left(starts, start + 1.0) - number for number, start in enumerate(starts)), default=0)


def _lines(what: str, text: str, starts: Sequence[float]) -> list[Line]:
    rate = 1 / Rate.parse(text).interval
    if len(starts) < 3:  # noqa: PLR2004  two intervals
        raise BenchmarkError(f"{what}: {len(starts)} pages started, too few to measure: give more --seconds")
    delivered = (len(starts) - 1) / (starts[-1] - starts[0])
    most = most_in_a_second(starts)
    logger.info("%-26s%8.3f/s delivered, %d in a second at most", what, delivered, most)
    return [
        Line(f"{what}: off by", [100 * abs(delivered / rate - 1)], 5, "less", "%"),
        Line("  most in one second", [most], 1.1 * rate + 1, "less", ""),
    ]


def _set(fleet: Fleet, rate: str) -> None:
    fleet.rate.set(Rate.parse(rate))
    time.sleep(_SETTLE_SECONDS)


def _disturbed(fleet: Fleet, seconds: float) -> list[float]:
    """Return when pages started while a worker joined after a quarter of the time and was killed after half of it."""
    began = time.time()
    time.sleep(seconds / 4)
    process = fleet.join()
    time.sleep(max(0.0, began + seconds / 2 - time.time()))
    os.killpg(process, signal.SIGKILL)
    time.sleep(max(0.0, began + seconds - time.time()))
    return fleet.between(began, began + seconds)


def _changes(fleet: Fleet) -> Iterator[float]:
    """Yield how many seconds each change took to take effect, the first one from no limit."""
    before = "none"
    _set(fleet, before)
    for rate in CHANGES:
        changed = time.time()
        fleet.rate.set(Rate.parse(rate))
        time.sleep(_CHANGE_SECONDS)
        took = _kept_after(fleet.between(changed - 1.0, changed + _CHANGE_SECONDS), rate) - changed
        logger.info("%-26s%8.2f s until it applied", f"{before} to {rate}", max(0.0, took))
        yield max(0.0, took)
        before = rate


def _kept_after(starts: Sequence[float], text: str) -> float:
    """Return the first start from which one second's pages (at least the next one) keep a rate to within 10 %."""
    interval = Rate.parse(text).interval
    group = max(1, round(1 / interval))
    for first, last in zip(starts, starts[group:], strict=False):
        if abs((last - first) / (group * interval) - 1) <= 0.1:  # noqa: PLR2004
            return first
    raise BenchmarkError(f"the rate never came to {text}")


@contextmanager
def _fleet(database_url: str, redis_url: str, workers: int) -> Iterator[Fleet]:
    """Yield a fleet of working workers."""
    name = f"backfill_bench_{secrets.token_hex(4)}"
    own_url = create_database(database_url, name)
    try:
        with tempfile.TemporaryDirectory(prefix="backfill-bench-") as directory:
            fleet = Fleet(own_url, redis_url, Path(directory))
            _init(fleet)
            try:
                for _ in range(workers):
                    fleet.join()
                with _in_thread(_feed, fleet), _in_thread(_watch, fleet):
                    yield fleet
            finally:
                fleet.leave()
    finally:
        drop_database(database_url, name)


def _init(fleet: Fleet) -> None:
    subprocess.run(  # noqa: S603 (our own command)
        [Path(sys.executable).parent / "backfill", "init"],
        env={**os.environ, "DATABASE_URL": fleet.database_url, "REDIS_URL": fleet.redis_url},
        check=True,
        stdout=subprocess.DEVNULL,
    )


@contextmanager
def _in_thread(function: Any, fleet: Fleet) -> Iterator[None]:
    ended = threading.Event()
    thread = threading.Thread(target=function, args=(fleet, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _feed(fleet: Fleet, ended: threading.Event) -> None:
    """Keep the backlog full."""
    version = celeryconfig.task_default_queue.rpartition(".")[2]
    queue = f"{fleet.directory.name}.{version}"
    page = {"run": "unknown", "lane": 1, "page": 1, "generation": 1}
    with Celery(broker=fleet.redis_url, set_as_current=False) as app, Redis.from_url(fleet.redis_url) as redis:
        while not ended.wait(_FEED_SECONDS):
            for _ in range(_BACKLOG - int(redis.llen(queue))):
                app.send_task("backfill.page", kwargs=page, queue=queue, ignore_result=True)


def _watch(fleet: Fleet, ended: threading.Event) -> None:
    """Record when each page starts. Stops at a worker's next event, at the latest its heartbeat."""

    def note(event: dict[str, Any]) -> None:
        if event["type"] == "task-started":
            fleet.starts.append(event["timestamp"])
        receiver.should_stop = ended.is_set()

    with Celery(broker=fleet.redis_url, set_as_current=False) as app, app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": note})
        receiver.capture(limit=None, timeout=None, wakeup=False)
