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

from backfill_tasks.engine import ledger, redis_client, schema
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.rate import FleetRate, Rate
from backfill_tasks.monitoring.exposition import Readings, Source, families
from backfill_tasks.monitoring.queries import PageTimes, watched_runs
from backfill_tasks.monitoring.stalls import Stall, Stalls
from backfill_tasks.options import Pace
from backfill_tasks.poll import Poll
from backfill_tasks.settings import Settings
from backfill_tasks.wiring import Parts, assemble
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

    settings: Settings
    parts: Parts
    redis: Redis
    queue: str
    workers: Poll[dict[str, int]]
    stalls: Poll[list[Stall]]
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
        with self.parts.engine.begin() as connection:
            begin_read_only(connection, statement_ms=_STATEMENT_MS)
            runs = []
            if schema.version(connection):  # otherwise no run has been started yet
                schema.require(connection)
                runs = watched_runs(connection)
            self._times.update(connection, runs)
        found.runs, found.page_times = runs, self._times.histograms()

    def _read_host(self, found: Readings) -> None:
        pace = Pace(max_live_wait=self.settings.defaults["max_live_wait"])
        backfills = self.parts.backfills.usable()
        indicators = [each for backfill in backfills for each in backfill.indicators(pace)]
        indicators += self.parts.pressure.indicators
        with self.parts.engine.begin() as connection:
            begin_read_only(connection, statement_ms=_STATEMENT_MS)
            readings = self.parts.pressure.readings(connection, indicators)
            found.pressure = [(each, by.unit) for each, by in zip(readings, indicators, strict=True)]
            found.ahead = {each.name: each.pending(connection, _MOST_AHEAD) for each in backfills if each.jobs}
            if schema.version(connection) == schema.latest():
                bounds = {each.name: ledger.read_bound(connection, each.name)[1] for each in backfills if each.queue}
                found.bounds = {name: each for name, each in bounds.items() if each is not None}

    def _read_redis(self, found: Readings) -> None:
        found.queued = int(str(self.redis.llen(self.queue)))
        found.dead_letters = DeadLetters(self.redis, self.settings.queue).count()
        found.rate = FleetRate(self.redis, self.settings.queue).read() or Rate.parse(self.settings.rate_limit)


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
    stalls = Poll("lanes", Stalls(settings, parts).ask, every=_STALLS_SECONDS, lasts=_ANSWER_SECONDS)
    redis = redis_client.connect(settings.redis_url, patience=0, timeout=_REDIS_SECONDS)
    for why in parts.backfills.broken().values():
        say(f"backfill: {why}")
    return Exporter(settings, parts, redis, app.conf.task_default_queue, workers, stalls, say)
