"""The Prometheus collector: reads its sources when Prometheus scrapes."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import get_args

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis import Redis

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.rate import current_rate
from backfill_tasks.monitoring.exposition import Readings, Source, families
from backfill_tasks.monitoring.page_times import PageTimes
from backfill_tasks.monitoring.roads import Roads, RunRoad
from backfill_tasks.monitoring.stalls import Stall, Stalls
from backfill_tasks.observer import Observer
from backfill_tasks.poll import Poll
from backfill_tasks.settings import Settings
from backfill_tasks.wiring import assemble
from backfill_tasks.worker.dead_letters import DeadLetters

#: How long readings are reused, in seconds: two Prometheus servers, or an impatient one, cost no more than one.
_FRESH_SECONDS = 1.0


#: The maximum duration of one statement of a scrape, in milliseconds, and of one call to Redis, in seconds.
_STATEMENT_MS = 500


_REDIS_SECONDS = 1.0


#: How long a scrape waits for its readings, in seconds: less than the 10 s after which Prometheus gives up. A database
#: that accepts connections and never answers would take longer.
_PATIENCE = 5.0


#: Jobs in the host's queue are counted up to this number.
_MOST_AHEAD = 10_000


#: How often the workers are asked, independently of scrapes (collecting all answers takes a second), and how long their
#: answers are valid, in seconds.
_ASK_SECONDS, _ANSWER_SECONDS = 5.0, 30.0


#: How often the jobs of runs are counted, in seconds, the share of time that this may take, and how long a count is
#: valid. Counting 300,000 jobs takes some 3 s.
_ROADS_SECONDS, _ROADS_SHARE, _COUNT_SECONDS = 5.0, 0.005, 14_400.0


#: How often lanes that don't move are looked for, in seconds, independently of scrapes.
_STALLS_SECONDS = 2.0


class Look:
    """One reading, in a thread of its own, so that a scrape can stop waiting for it."""

    def __init__(self, read: Callable[[Readings], None]) -> None:
        self._found = Readings()
        self._ended = threading.Event()
        self._fresh_until = float("inf")
        threading.Thread(target=self._go, args=[read], daemon=True).start()

    def _go(self, read: Callable[[Readings], None]) -> None:
        try:
            read(self._found)
        finally:
            self._fresh_until = time.monotonic() + _FRESH_SECONDS
            self._ended.set()

    @property
    def is_stale(self) -> bool:
        """Whether its readings are too old to reuse."""
        return time.monotonic() >= self._fresh_until

    def result(self) -> Readings:
        """Return the readings, or, after a time limit, those made so far."""
        self._ended.wait(_PATIENCE)
        up = dict(self._found.up)
        return replace(self._found, up={source: up.get(source, False) for source in get_args(Source)})


@dataclass(eq=False)
class Exporter(Collector):
    """Reads the metrics when Prometheus scrapes. A source that can't be read is left out, and `source_up` says so."""

    observer: Observer
    redis: Redis
    queue: str
    workers: Poll[dict[str, int]]
    stalls: Poll[list[Stall]]
    roads: Poll[list[RunRoad]]
    say: Callable[[str], None]
    _times: PageTimes = field(default_factory=PageTimes)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _look: Look | None = None
    _down: set[Source] = field(default_factory=set)

    def describe(self) -> Iterable[Metric]:
        """Describe no metrics: which ones exist depends on which sources can be read."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield metrics read now or less than a second ago. Concurrent scrapes share one reading."""
        with self._lock:
            if self._look is None or self._look.is_stale:
                self._look = Look(self._read)
            look = self._look
        return families(look.result())

    def _read(self, found: Readings) -> None:
        """Read all sources, starting with those that are sure to be quick."""
        began = time.monotonic()
        with self._source(found, "workers"):
            found.workers = self.workers.read()
        with self._source(found, "lanes"):
            found.stalls = self.stalls.read()
        with self._source(found, "jobs"):
            found.roads = self.roads.read()
        with self._source(found, "redis"):
            self._read_redis(found)
        with self._source(found, "ledger"):
            self._read_ledger(found)
        with self._source(found, "host"):
            self._read_host(found)
        found.seconds = time.monotonic() - began

    @contextmanager
    def _source(self, found: Readings, source: Source) -> Iterator[None]:
        """Contain a source's failure: log one line when it starts to fail, and leave the other sources alone."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  the exporter must outlive any failing source
            if source not in self._down:
                words = str(error).splitlines() or [""]
                self.say(f"backfill: {source} can't be read and is left out: {type(error).__name__}: {words[0]}")
            self._down.add(source)
        else:
            self._down.discard(source)
        found.up[source] = source not in self._down

    def _read_ledger(self, found: Readings) -> None:
        found.page_times = self._times.histograms()
        watched = self.observer.watched()
        self._times.count(self.observer.pages_after(self._times.behind(watched)))
        found.runs, found.page_times = watched.runs, self._times.histograms()
        found.drain = self.observer.drain()

    def _read_host(self, found: Readings) -> None:
        found.pressure = [(reading, indicator.unit) for indicator, reading in self.observer.pressure()]
        found.ahead = self.observer.jobs_ahead(_MOST_AHEAD)
        found.bounds = self.observer.bounds()
        found.scoring = self.observer.scoring()

    def _read_redis(self, found: Readings) -> None:
        found.queued = int(str(self.redis.llen(self.queue)))
        found.dead_letters = DeadLetters(self.redis, self.observer.settings.queue).count()
        found.rate = current_rate(self.redis, self.observer.settings)


def exporter(settings: Settings, say: Callable[[str], None]) -> Exporter:
    """Return an exporter for these settings' database, Redis and workers. None of them has to be up yet.

    `say` gets one line when a source starts to fail.

    Raises:
        ConfigurationError: the database's URL is missing or can't be read.
    """
    from backfill_tasks.worker.app import app  # noqa: PLC0415  Celery takes half a second to import
    from backfill_tasks.worker.fleet import waiting_for_the_rate  # noqa: PLC0415
    from backfill_tasks.worker.tasks import send  # noqa: PLC0415

    def ask() -> dict[str, int]:
        return {worker: len(pages) for worker, pages in waiting_for_the_rate().items()}

    workers = Poll("workers", ask, every=_ASK_SECONDS, lasts=_ANSWER_SECONDS)
    parts = assemble(settings, send, patience=0)
    observer = Observer(settings, parts, _STATEMENT_MS)
    stalls = Poll("lanes", Stalls(observer).ask, every=_STALLS_SECONDS, lasts=_ANSWER_SECONDS)
    patient = Observer(settings, parts, settings.statement_timeout_ms)
    roads = Poll("jobs", Roads(patient).ask, every=_ROADS_SECONDS, share=_ROADS_SHARE, lasts=_COUNT_SECONDS)
    redis = redis_client.connect(settings.redis_url, patience=0, timeout=_REDIS_SECONDS)
    for why in parts.backfills.broken().values():
        say(f"backfill: {why}")
    return Exporter(observer, redis, app.conf.task_default_queue, workers, stalls, roads, say)
