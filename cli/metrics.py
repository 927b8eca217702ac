"""The command `metrics`: an exporter for Prometheus that reads when it is asked, and answers whatever fails."""

import base64
import hmac
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any, get_args
from wsgiref.simple_server import WSGIRequestHandler, make_server

import click
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis import Redis

from backfill_tasks.dead_letters import DeadLetters
from backfill_tasks.engine import live, schema
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.metrics import PageTimes, watched_runs
from backfill_tasks.engine.pace import Pace
from backfill_tasks.engine.rate import FleetRate, Rate
from backfill_tasks.errors import UsageError
from backfill_tasks.settings import Settings
from backfill_tasks.wiring import Parts, assemble
from cli.exposition import Readings, Source, families
from cli.poll import Poll
from cli.session import Session, say
from cli.signals import signals
from cli.stalls import Stall, Stalls

#: How long readings hold, in seconds: two Prometheus servers, or an impatient one, cost no more than one.
_FRESH_SECONDS = 1.0

#: The longest that one statement of a scrape may take, in milliseconds, and one call to Redis, in seconds.
_STATEMENT_MS = 500
_REDIS_SECONDS = 1.0

#: How long a scrape waits for what is read, in seconds: below the 10 s after which Prometheus gives up. A database that
#: takes connections and never answers would hold it for longer.
_PATIENCE = 5.0

#: Jobs in the host's queue are counted so far and no further.
_MOST_AHEAD = 10_000

#: How often the workers are asked, beside the scrapes (all answers take a second to come in), and how long they hold.
_ASK_SECONDS, _ANSWER_SECONDS = 5.0, 30.0

#: How often lanes that don't move are looked for, beside the scrapes.
_STALLS_SECONDS = 2.0

Start = Callable[[str, list[tuple[str, str]]], Any]


class Look:
    """One reading, in a thread of its own, so that nobody has to wait for its end."""

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
        """Whether it has ended too long ago."""
        return time.monotonic() >= self._fresh_until

    def result(self) -> Readings:
        """What was found, or after a while what has been found so far."""
        self._ended.wait(_PATIENCE)
        up = dict(self._found.up)
        return replace(self._found, up={source: up.get(source, False) for source in get_args(Source)})


@dataclass(eq=False)
class Exporter(Collector):
    """Reads what there is to measure when Prometheus asks. What can't be read is left out, and `source_up` says so."""

    settings: Settings
    parts: Parts
    redis: Redis
    queue: str
    workers: Poll[dict[str, int]]
    stalls: Poll[list[Stall]]
    _times: PageTimes = field(default_factory=PageTimes)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _look: Look | None = None
    _down: set[Source] = field(default_factory=set)

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on what can be read."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What was read now, or less than a second ago. One reading goes on at a time, however many ask."""
        with self._lock:
            if self._look is None or self._look.is_stale:
                self._look = Look(self._read)
            look = self._look
        return families(look.result())

    def _read(self, found: Readings) -> None:
        """Read everything, first what is sure to take no longer than a moment."""
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
        """Whatever fails in it is one line in the log when it begins to fail, and leaves everything else as it is."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  an exporter never fails
            if source not in self._down:
                words = str(error).splitlines() or [""]
                say(f"backfill: {source} can't be read and is left out: {type(error).__name__}: {words[0]}")
            self._down.add(source)
        else:
            self._down.discard(source)
        found.up[source] = source not in self._down

    def _read_ledger(self, found: Readings) -> None:
        found.page_times = self._times.histograms()
        with self.parts.engine.begin() as connection:
            begin_read_only(connection, statement_ms=_STATEMENT_MS)
            runs = []
            if schema.version(connection):  # else nobody has begun anything yet
                schema.require(connection)
                runs = watched_runs(connection)
            self._times.update(connection, runs)
        found.runs, found.page_times = runs, self._times.histograms()

    def _read_host(self, found: Readings) -> None:
        pace = Pace(max_live_wait=self.settings.max_live_wait)
        backfills = self.parts.backfills.values()
        indicators = [each for backfill in backfills for each in backfill.indicators(pace)]
        indicators += self.parts.pressure.indicators
        with self.parts.engine.begin() as connection:
            begin_read_only(connection, statement_ms=_STATEMENT_MS)
            readings = self.parts.pressure.readings(connection, indicators)
            found.pressure = [(each, by.unit) for each, by in zip(readings, indicators, strict=True)]
            found.ahead = {each.name: each.pending(connection, _MOST_AHEAD) for each in backfills if each.jobs}

    def _read_redis(self, found: Readings) -> None:
        found.queued = int(str(self.redis.llen(self.queue)))
        found.dead_letters = DeadLetters(self.redis, self.settings.queue).count()
        found.rate = FleetRate(self.redis, self.settings.queue).read() or Rate.parse(self.settings.rate_limit)


def exporter(settings: Settings) -> Exporter:
    """An exporter of these settings' database, Redis and workers; none of them has to be there yet.

    Raises:
        ConfigurationError: the database's URL is missing or can't be read.
    """
    from backfill_tasks.celery import app  # noqa: PLC0415  Celery takes half a second to import
    from backfill_tasks.fleet import waiting_for_the_rate  # noqa: PLC0415
    from backfill_tasks.tasks import send  # noqa: PLC0415

    def ask() -> dict[str, int]:
        return {worker: len(pages) for worker, pages in waiting_for_the_rate().items()}

    workers = Poll("workers", ask, every=_ASK_SECONDS, lasts=_ANSWER_SECONDS)
    parts = assemble(settings, send, patience=0)
    stalls = Poll("lanes", Stalls(settings, parts).ask, every=_STALLS_SECONDS, lasts=_ANSWER_SECONDS)
    redis = live.connect(settings.redis_url, patience=0, timeout=_REDIS_SECONDS)
    return Exporter(settings, parts, redis, app.conf.task_default_queue, workers, stalls)


@dataclass(frozen=True)
class Door:
    """/metrics, for who knows the token or the login, if there is one; there is nothing else."""

    metrics: Callable[[dict[str, Any], Start], Iterable[bytes]]
    token: str | None
    login: str | None

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """A request, as WSGI has it."""
        if environ["PATH_INFO"] != "/metrics":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"There is only /metrics.\n"]
        if not self._is_open_to(environ.get("HTTP_AUTHORIZATION", "")):
            schemes = [("WWW-Authenticate", 'Basic realm="backfill"')] if self.login else []
            start("401 Unauthorized", [("Content-Type", "text/plain"), *schemes])
            return [b"A token or a login is needed.\n"]
        return self.metrics(environ, start)

    def _is_open_to(self, header: str) -> bool:
        known = []
        if self.token:
            known.append(f"bearer {self.token}")
        if self.login:
            known.append(f"basic {base64.b64encode(self.login.encode()).decode()}")
        scheme, _, secret = header.partition(" ")
        given = f"{scheme.lower()} {secret.strip()}".encode()
        return not known or any(hmac.compare_digest(given, each.encode()) for each in known)


class _Silent(WSGIRequestHandler):
    """Prometheus asks every few seconds: nobody wants a line each time. One that says nothing is not waited for."""

    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name in the standard library
        """Say nothing."""


class _Server(ThreadingWSGIServer):
    """A server to which a connection that times out or is cut is no event worth a traceback."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a broken connection unsaid; the standard library's traceback is for anything else."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=9808, show_default=True, help="0: any that is free.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.pass_obj
def metrics(session: Session, *, port: int, address: str) -> None:
    """Serve /metrics for Prometheus until Ctrl-C or SIGTERM.

    A scrape reads the ledger, the host's queue and Redis; what can't be read is
    left out and backfill_source_up says so. BACKFILL_METRICS_TOKEN or
    BACKFILL_METRICS_LOGIN closes it; without one it listens on this machine only.

    \b
    Examples:
      backfill metrics
      BACKFILL_METRICS_TOKEN=... backfill metrics --address 0.0.0.0
    """
    settings = session.settings
    family, numeric = _resolved(address, port)
    if not (settings.metrics_token or settings.metrics_login or ip_address(numeric).is_loopback):
        raise UsageError(
            f"{address} can be reached from other machines: set BACKFILL_METRICS_TOKEN or BACKFILL_METRICS_LOGIN"
        )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter(settings))
    door = Door(make_wsgi_app(registry), settings.metrics_token, settings.metrics_login)
    server_class: type[ThreadingWSGIServer] = type("_Server", (_Server,), {"address_family": family})
    try:
        server: ThreadingWSGIServer = make_server(numeric, port, door, server_class, _Silent)
    except OSError as error:
        raise UsageError(
            f"can't listen at {address}, port {port}: {error.strerror}; see --address and --port"
        ) from None
    with server, signals() as stopped:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shown = f"[{numeric}]" if family == socket.AF_INET6 else numeric
        say(f"Metrics at http://{shown}:{server.server_port}/metrics")
        stopped.wait()
        server.shutdown()


def _resolved(address: str, port: int) -> tuple[socket.AddressFamily, str]:
    """An address to listen at, as a number.

    Raises:
        UsageError: it is none of this machine's.
    """
    try:
        family, *_, found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"{address!r} is no address to listen at: {error}; see --address") from None
    return family, str(found[0])
