"""The parts of the benchmark: what is measured, in which order, and what it has to reach.

What is compared is measured in turns, each time on a fresh copy of the host database, and compared turn by turn: what
else the machine does meanwhile weighs on both sides alike.
"""

import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import latency, loops, memory, pressure, queue, rate, tool, webhooks
from benchmarks.host import Host, filled
from benchmarks.report import Line
from benchmarks.walk import BenchmarkError, Walk

logger = logging.getLogger("benchmarks")

#: Lanes that are measured, as they are called.
LANES = {1: "1 lane", 2: "2 lanes", 4: "4 lanes"}

_LARGE = 2_000_000
_SPARSE = 100

#: Four of five leads take part: the backlog that such a backfill is for.
_ELIGIBLE_SHARE = 0.8

_FAR_MS = 2.0
_FAR_LIMIT = 500
#: Far away, a lead done by itself takes two network latencies and little else: a few tell enough.
_FAR_SAMPLE = 1_000

#: Small pages make a long run of many tasks, in which a leak of a few bytes a task shows.
_MEMORY_LIMIT = 20

#: Pages are compared that lie so far around 10 % and 90 % of the table.
_AROUND = 0.05


@dataclass(frozen=True)
class Bench:
    """Where it is measured, and how much.

    Attributes:
        database_url: the server's.
        redis_url: the broker's.
        leads: how many the host database has.
        limit: page size.
        repetitions: how often what is compared is measured.
        sample: how many leads are done one by one.
        schema: SQL that makes the host's tables.
        seconds: for how long each rate is measured.
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
        """A host database, by default of the size that was asked for, with many eligible leads."""
        rows = leads or self.leads
        wanted = eligible or int(rows * _ELIGIBLE_SHARE)
        logger.info("filling a host database: %s leads, %s eligible", f"{rows:,}", f"{wanted:,}")
        with filled(self.database_url, rows, eligible=wanted, definition=self.schema) as host:
            yield host


@dataclass(frozen=True)
class Meter:
    """Measures one thing at a time on a fresh copy of a host database, which is `milliseconds` away each way."""

    bench: Bench
    host: Host
    limit: int
    milliseconds: float = 0.0

    def tool(self, lanes: int) -> Walk:
        """The tool, with as many worker children as lanes."""
        with self._database() as url, tool.started(url, self.bench.redis_url, children=lanes) as started:
            return started.run(lanes=lanes, limit=self.limit)

    def bare(self, lanes: int) -> Walk:
        """The bare page statement, with as many processes as lanes."""
        with self._database() as url:
            return loops.bare(url, lanes=lanes, limit=self.limit)

    def one_by_one(self, leads: int) -> Walk:
        """One upsert a lead, for so many leads."""
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
    """The tool against the bare page statement, against one upsert a lead, and against itself in one lane."""
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
    """The tool against one upsert a lead, with a network between them and the database."""
    with bench.host() as host:
        with host.copy() as url, latency.delayed(url, _FAR_MS) as far_url:
            trip = latency.round_trip(far_url) - latency.round_trip(url)
        meter = Meter(bench, host, _FAR_LIMIT, _FAR_MS)
        measurements = {f"tool, {lanes}": partial(meter.tool, number) for number, lanes in LANES.items()}
        rates = _in_turns(
            {**measurements, "one upsert a lead": partial(meter.one_by_one, _FAR_SAMPLE)}, bench.repetitions
        )
    return [
        Line("round trip that the proxy adds", [trip], unit="ms"),
        *(Line(name, each, unit="/s") for name, each in sorted(rates.items())),
        *(Line(*_ratio(rates, f"tool, {lanes}", "one upsert a lead"), 50) for lanes in LANES.values()),
    ]


def drift(bench: Bench) -> list[Line]:
    """The time of a page late in the table against that of a page early in it."""
    with bench.host() as host:
        return _drift(bench, host, bench.repetitions)


def drift_large(bench: Bench) -> list[Line]:
    """The same in a table of 2,000,000 leads."""
    with bench.host(leads=_LARGE) as host:
        return _drift(bench, host, 1)


def flat(bench: Bench) -> list[Line]:
    """What a worker's processes hold in memory at the end of a long run against its beginning."""
    if not memory.measurable():
        raise BenchmarkError("memory is measured on Linux only: leave the part away with --only")
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
    """The longest page of a table of 2,000,000 leads of which 100 are eligible."""
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
    """What the fleet's rate delivers, with 1, 2 and 4 workers, and while workers come, die and the rate changes."""
    return rate.measure(bench.database_url, bench.redis_url, bench.seconds)


def waits(bench: Bench) -> list[Line]:
    """Live jobs' wait in the host's queue without a backfill, beside this one, and behind one that heeds nothing."""
    with bench.host(leads=queue.LEADS) as host:
        return queue.measure(host, bench.redis_url)


def asking(bench: Bench) -> list[Line]:
    """How long a page waits while all indicators are asked."""
    with bench.host() as host:
        return pressure.measure(host, bench.redis_url, limit=bench.limit)


def beside_webhooks(bench: Bench, *, spare_cores: bool) -> list[Line]:
    """The time of a webhook's transaction by itself, beside a backfill, and beside what else could be done."""
    with bench.host() as host:
        return webhooks.measure(
            host, bench.redis_url, limit=bench.limit, repetitions=bench.repetitions, spare_cores=spare_cores
        )


@dataclass(frozen=True)
class Part:
    """A part by its title; a large one takes minutes and is measured only where that is asked for."""

    title: str
    measure: Callable[[Bench], list[Line]]
    large: bool = False


PARTS = {
    "near": Part("Database on the same machine", near),
    "far": Part("Database 2 ms away each way, pages of 500", far),
    "drift": Part("Page time along the table", drift),
    "memory": Part("Memory over a run, pages of 20", flat),
    "pressure": Part("Asking all indicators before a page", asking),
    "drift-large": Part("Page time along a table of 2,000,000 leads", drift_large, large=True),
    "rate": Part("The fleet's rate, 100 pages waiting", paced, large=True),
    "sparse": Part("2,000,000 leads, 100 eligible", sparse, large=True),
    "queue": Part("Live jobs' wait in the host's queue, eight hours", waits, large=True),
    "webhooks": Part(
        "Webhooks' transactions beside a backfill, with cores to spare",
        partial(beside_webhooks, spare_cores=True),
        large=True,
    ),
    "webhooks-shared": Part(
        "Webhooks' transactions beside a backfill, all cores shared",
        partial(beside_webhooks, spare_cores=False),
        large=True,
    ),
}


def _in_turns(measurements: Mapping[str, Callable[[], Walk]], repetitions: int) -> dict[str, list[float]]:
    """Leads a second of each measurement, one after the other, again and again."""
    rates: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in range(1, repetitions + 1):
        for name, measure in measurements.items():
            rates[name].append(measure().rate)
            logger.info("%d/%d  %-22s%10s leads/s", turn, repetitions, name, f"{rates[name][-1]:,.0f}")
    return rates


def _ratio(rates: Mapping[str, Sequence[float]], one: str, other: str) -> tuple[str, list[float]]:
    """One measurement against another, turn by turn, and how that is called."""
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
    """The median time of the pages around a place, in milliseconds."""
    first, last = (round(len(pages) * (place + side)) for side in (-_AROUND, _AROUND))
    return 1000 * statistics.median(pages[first:last])
