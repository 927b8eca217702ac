"""The parts of the benchmark: what is measured, in which order, and the targets.

Measurements to be compared alternate, each on a fresh copy of the host database, and are compared turn by turn, so
that other load on the machine affects both sides alike.
"""

import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import forecast, latency, loops, memory, pressure, queue, rate, sizing, tool, webhooks
from benchmarks.host import Host, filled
from benchmarks.report import Line
from benchmarks.walk import BenchmarkError, Walk

logger = logging.getLogger("benchmarks")

#: The numbers of lanes measured, with their labels.
LANES = {1: "1 lane", 2: "2 lanes", 4: "4 lanes"}

_LARGE = 2_000_000
_SPARSE = 100

#: Four of five leads are eligible: the backlog that such a backfill is written for.
_ELIGIBLE_SHARE = 0.8

_FAR_MS = 2.0
_FAR_LIMIT = 500
#: Over the network, one lead at a time costs two round trips and little else, so a small sample is enough.
_FAR_SAMPLE = 1_000

#: Small pages make a run of many tasks, so that a leak of a few bytes per task shows.
_MEMORY_LIMIT = 20

#: Pages within this share of the table around 10 % and 90 % are compared.
_AROUND = 0.05


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured.

    Attributes:
        database_url: the server.
        redis_url: the broker.
        leads: the leads in the host database.
        limit: the page size.
        repetitions: how often measurements to be compared are repeated.
        sample: how many leads are done one by one.
        schema: SQL that creates the host's tables.
        seconds: how long each rate is measured.
    """

    database_url: str
    redis_url: str
    leads: int
    limit: int
    repetitions: int
    sample: int
    schema: Path
    seconds: int

    @contextmanager
    def host(self, *, leads: int | None = None, eligible: int | None = None) -> Iterator[Host]:
        """Yield a host database, by default with `leads` leads of which most are eligible."""
        rows = leads or self.leads
        wanted = eligible or int(rows * _ELIGIBLE_SHARE)
        logger.info("filling a host database: %s leads, %s eligible", f"{rows:,}", f"{wanted:,}")
        with filled(self.database_url, rows, eligible=wanted, definition=self.schema) as host:
            yield host


@dataclass(frozen=True)
class Meter:
    """Measures one thing at a time on a fresh copy of a host database that is `milliseconds` away each way."""

    bench: Bench
    host: Host
    limit: int
    milliseconds: float = 0.0

    def tool(self, lanes: int) -> Walk:
        """Measure the tool, with one worker child per lane."""
        with self._database() as url, tool.started(url, self.bench.redis_url, children=lanes) as started:
            return started.run(lanes=lanes, limit=self.limit)

    def bare(self, lanes: int) -> Walk:
        """Measure the bare page statement, with one process per lane."""
        with self._database() as url:
            return loops.bare(url, lanes=lanes, limit=self.limit)

    def one_by_one(self, leads: int) -> Walk:
        """Measure one upsert per lead, for this many leads."""
        with self._database() as url:
            return loops.one_by_one(url, leads=leads, limit=self.limit)

    @contextmanager
    def _database(self) -> Iterator[str]:
        with self.host.copy() as url:
            if self.milliseconds:
                with latency.delayed(url, self.milliseconds) as far_url:
                    yield far_url
            else:
                yield url


def near(bench: Bench) -> list[Line]:
    """Compare the tool with the bare page statement, with one upsert per lead, and with itself in one lane."""
    with bench.host() as host:
        meter = Meter(bench, host, bench.limit)
        measurements: dict[str, Callable[[], Walk]] = {}
        for number, lanes in LANES.items():
            measurements[f"bare page, {lanes}"] = partial(meter.bare, number)
            measurements[f"tool, {lanes}"] = partial(meter.tool, number)
        rates = _in_turns(
            {**measurements, "one upsert a lead": partial(meter.one_by_one, bench.sample)}, bench.repetitions
        )
    return [
        *(Line(name, each, unit="/s") for name, each in sorted(rates.items())),
        *(Line(*_ratio(rates, f"tool, {lanes}", f"bare page, {lanes}"), 0.85) for lanes in LANES.values()),
        *(Line(*_ratio(rates, f"tool, {lanes}", "one upsert a lead"), 8) for lanes in LANES.values()),
        Line(*_ratio(rates, "tool, 2 lanes", "tool, 1 lane"), 1.5),
        Line(*_ratio(rates, "bare page, 2 lanes", "bare page, 1 lane")),
    ]


def far(bench: Bench) -> list[Line]:
    """Compare the tool with one upsert per lead, across a network."""
    with bench.host() as host:
        with host.copy() as url, latency.delayed(url, _FAR_MS) as far_url:
            trip = latency.round_trip(far_url) - latency.round_trip(url)
        meter = Meter(bench, host, _FAR_LIMIT, _FAR_MS)
        measurements = {f"tool, {lanes}": partial(meter.tool, number) for number, lanes in LANES.items()}
        rates = _in_turns(
            {**measurements, "one upsert a lead": partial(meter.one_by_one, _FAR_SAMPLE)}, bench.repetitions
        )
    return [
        Line("round trip added by the proxy", [trip], unit="ms"),
        *(Line(name, each, unit="/s") for name, each in sorted(rates.items())),
        *(Line(*_ratio(rates, f"tool, {lanes}", "one upsert a lead"), 50) for lanes in LANES.values()),
    ]


def drift(bench: Bench) -> list[Line]:
    """Compare the time of a page late in the table with that of an early one."""
    with bench.host() as host:
        return _drift(bench, host, bench.repetitions)


def drift_large(bench: Bench) -> list[Line]:
    """Do the same in a table of 2,000,000 leads."""
    with bench.host(leads=_LARGE) as host:
        return _drift(bench, host, 1)


def flat(bench: Bench) -> list[Line]:
    """Compare the memory of a worker's processes at the end of a long run with that at its beginning."""
    if not memory.measurable():
        raise BenchmarkError("memory can be measured on Linux only: choose other parts with --only")
    with bench.host() as host, host.copy() as url, tool.started(url, bench.redis_url, children=2) as started:
        with memory.watched(started.worker) as samples:
            started.run(lanes=2, limit=_MEMORY_LIMIT)
        pages = len(started.page_seconds())
    main = samples.pop(started.worker)
    return [
        Line("pages", [pages], unit=""),
        Line("a worker's child, resident", [statistics.median(each) / 2**20 for each in samples.values()], unit="MB"),
        Line("children, last quarter / first", [memory.growth(each) for each in samples.values()], 1.05, "less"),
        Line("main process, last quarter / first", [memory.growth(main)], 1.05, "less"),
    ]


def sparse(bench: Bench) -> list[Line]:
    """Measure the longest page in a table of 2,000,000 leads of which 100 are eligible."""
    with (
        bench.host(leads=_LARGE, eligible=_SPARSE) as host,
        host.copy() as url,
        tool.started(url, bench.redis_url, children=2) as started,
    ):
        walk = started.run(lanes=2, limit=bench.limit)
        pages = [1000 * seconds for seconds in started.page_seconds()]
    if walk.leads != _SPARSE:
        raise BenchmarkError(f"the run read {walk.leads} leads instead of {_SPARSE}")
    return [
        Line("pages", [len(pages)], unit=""),
        Line("a page", [statistics.median(pages)], unit="ms"),
        Line("the longest page", [max(pages)], 500, "less", unit="ms"),
        Line("the whole run", [walk.seconds], unit="s"),
    ]


def paced(bench: Bench) -> list[Line]:
    """Measure what the fleet's rate delivers: with 1, 2 and 4 workers, and while workers join and die or it changes."""
    return rate.measure(bench.database_url, bench.redis_url, bench.seconds)


def sizes(bench: Bench) -> list[Line]:
    """Measure how the self-sizing bound follows several hosts' drains."""
    with bench.host(leads=sizing.LEADS) as host:
        return sizing.measure(host, bench.redis_url)


def waits(bench: Bench) -> list[Line]:
    """Measure live jobs' waits in the host's queue: without a backfill, with this one, and with an unthrottled one."""
    with bench.host(leads=queue.LEADS) as host:
        return queue.measure(host, bench.redis_url)


def asking(bench: Bench) -> list[Line]:
    """Measure how long a page waits while all indicators are queried."""
    with bench.host() as host:
        return pressure.measure(host, bench.redis_url, limit=bench.limit)


def beside_webhooks(bench: Bench, *, spare_cores: bool) -> list[Line]:
    """Measure a webhook's transaction by itself, alongside a backfill, and alongside the alternatives."""
    with bench.host() as host:
        return webhooks.measure(
            host, bench.redis_url, limit=bench.limit, repetitions=bench.repetitions, spare_cores=spare_cores
        )


@dataclass(frozen=True)
class Part:
    """A part with its title. A large part takes minutes and is measured only on request."""

    title: str
    measure: Callable[[Bench], list[Line]]
    large: bool = False


PARTS = {
    "near": Part("Database on the same machine", near),
    "far": Part("Database 2 ms away each way, pages of 500", far),
    "drift": Part("Page time along the table", drift),
    "memory": Part("Memory over a run, pages of 20", flat),
    "pressure": Part("Querying all indicators before a page", asking),
    "drift-large": Part("Page time along a table of 2,000,000 leads", drift_large, large=True),
    "rate": Part("The fleet's rate, 100 pages waiting", paced, large=True),
    "sparse": Part("2,000,000 leads, 100 eligible", sparse, large=True),
    "queue": Part("Live jobs' wait in the host's queue, eight hours", waits, large=True),
    "sizing": Part("The bound that sizes itself, half an hour for each host", sizes, large=True),
    "forecast": Part("The forecast's intervals, simulated runs", lambda _bench: forecast.measure(), large=True),
    "webhooks": Part(
        "Webhooks' transactions alongside a backfill, with cores to spare",
        partial(beside_webhooks, spare_cores=True),
        large=True,
    ),
    "webhooks-shared": Part(
        "Webhooks' transactions alongside a backfill, all cores shared",
        partial(beside_webhooks, spare_cores=False),
        large=True,
    ),
}


def _in_turns(measurements: Mapping[str, Callable[[], Walk]], repetitions: int) -> dict[str, list[float]]:
    """Return the leads per second of each measurement, taking turns."""
    rates: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in range(1, repetitions + 1):
        for name, measure in measurements.items():
            rates[name].append(measure().rate)
            logger.info("%d/%d  %-22s%10s leads/s", turn, repetitions, name, f"{rates[name][-1]:,.0f}")
    return rates


def _ratio(rates: Mapping[str, Sequence[float]], one: str, other: str) -> tuple[str, list[float]]:
    """Return the label and the quotients, turn by turn, of two measurements."""
    return f"{one} / {other}", _quotients(rates[one], rates[other])


def _quotients(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(one, other, strict=True)]


def _drift(bench: Bench, host: Host, repetitions: int) -> list[Line]:
    early, late = [], []
    for _ in range(repetitions):
        with host.copy() as url, tool.started(url, bench.redis_url, children=1) as started:
            started.run(lanes=1, limit=bench.limit)
            pages = started.page_seconds()
        early.append(_time_at(pages, 0.1))
        late.append(_time_at(pages, 0.9))
        logger.info("a page takes %.1f ms at 10 %%, %.1f ms at 90 %%", early[-1], late[-1])
    return [
        Line("a page at 10 %", early, unit="ms"),
        Line("a page at 90 %", late, unit="ms"),
        Line("90 % / 10 %", _quotients(late, early), 1.2, "less"),
    ]


def _time_at(pages: Sequence[float], place: float) -> float:
    """Return the median time of the pages around a place, in milliseconds."""
    first, last = (round(len(pages) * (place + side)) for side in (-_AROUND, _AROUND))
    return 1000 * statistics.median(pages[first:last])
