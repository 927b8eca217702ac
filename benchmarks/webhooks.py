"""How long a webhook's transaction takes: by itself, beside a backfill, and beside whatever else could be done instead.

Modelled: processes that write as the host does when a message comes in, to leads all over the tables that the backfill
walks: insert the message, update the lead, insert a live job, commit, on the disk. The load is open: messages come at
their own times, however long the writes take, so a time counts from when the message came, and a writer that is late
makes those behind it late.

Two backfills: the one that an operator gets without an option, which keeps to the room in the host's queue; and one at
full speed, with nothing that spreads or bounds its jobs. The writers' own jobs fill that queue, so the first waits for
room and does next to no pages: it shows what waiting costs, and has no target.

Not modelled: a network, and a database server of its own. Here the backfill's workers, the writers and PostgreSQL share
the machine's cores, and a transaction whose next step finds no core free waits for one, for up to a scheduler's slice.
So there are controls: processes that compute and touch neither the database nor the disk; the page statement in a plain
loop, which is what every backfill in pages has to do; and one upsert a lead, as a script does it.
"""

import logging
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Barrier, Event
from threading import BrokenBarrierError

import psycopg

from benchmarks import loops, tool
from benchmarks.host import Host
from benchmarks.report import Line
from benchmarks.simulator import quantile
from benchmarks.tool import Tool
from benchmarks.walk import BenchmarkError, Walk

logger = logging.getLogger("benchmarks")

_WRITERS = 4
#: Transactions a second of each writer, which is far more than a host's webhooks: a run of seconds has to meet enough
#: of them for a 99th percentile.
_RATE = 25.0

#: With what the tool itself does beside others at work: that is what is measured here.
_FULL_SPEED = {name: value for name, value in tool.FULL_SPEED.items() if name != "BACKFILL_BUSY_LIMIT"}

#: The 99th percentile beside a backfill against the one without.
_TARGET = 1.3

_WARM_SECONDS = 2.0
_ALONE_SECONDS = 6.0
_BUSY_SECONDS = 8.0
_DEFAULTS_SECONDS = 20.0
_SETTLE_SECONDS = 3.0
_ONE_BY_ONE_LEADS = 25_000
_TOGETHER_SECONDS = 60.0

_LEADS = 'SELECT id, "clientId" FROM "Lead" ORDER BY id'

_WRITE = (
    """
    INSERT INTO "Message" (id, body, direction, "leadId", "sentAt")
    VALUES (%(id)s, 'Hello again, and thank you', 'inbound', %(lead)s, now() AT TIME ZONE 'UTC')
    """,
    """
    UPDATE "Lead"
    SET "lastMessageAt" = now() AT TIME ZONE 'UTC', "lastInboundAt" = now() AT TIME ZONE 'UTC',
      "lastMessageDirection" = 'inbound', "updatedAt" = now() AT TIME ZONE 'UTC'
    WHERE id = %(lead)s
    """,
    """
    INSERT INTO "BackgroundJob" (id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "updatedAt")
    VALUES (%(id)s, 'EMAIL_INBOUND_POST_PROCESS', 'PENDING', %(id)s, %(client)s, %(lead)s, %(id)s,
      now() AT TIME ZONE 'UTC')
    """,
)

_SPAN = "SELECT extract(epoch FROM started_at)::float, extract(epoch FROM finished_at)::float FROM backfill.run"

#: Computes and touches nothing; ends by itself where nobody is left to end it.
_COMPUTE = "import sys, time; end = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"


@dataclass(frozen=True)
class Stretch:
    """From when to when something was beside the writers, and how many leads a second it did; None: it does none."""

    began: float
    ended: float
    leads_per_second: float | None = None


@dataclass(frozen=True)
class Company:
    """What goes on beside the writers.

    Attributes:
        name: as the lines call it.
        keep: is beside them for a while, with a tool whose worker is ready; answers when that was.
        children: how many processes that worker has.
        settings: of the tool.
        target: how many times as long as by themselves the slowest hundredth may take.
    """

    name: str
    keep: Callable[[Tool], Stretch]
    children: int = 1
    settings: Mapping[str, str] = field(default_factory=lambda: _FULL_SPEED)
    target: float | None = None


@dataclass(frozen=True)
class Turn:
    """How long transactions took in one turn, in milliseconds, sorted.

    Attributes:
        alone: those of some seconds before and after.
        beside: those that were due while the company was there.
        leads_per_second: how fast that was.
    """

    alone: Sequence[float]
    beside: Sequence[float]
    leads_per_second: float | None


def measure(host: Host, redis_url: str, *, limit: int, repetitions: int) -> list[Line]:
    """In turns with each company, each turn on a fresh copy of the host database."""
    companies = _companies(limit)
    # Not counted. A server that has just started makes the files of its log while it is measured, and commits wait for
    # each; one that has been at work writes over old ones. Two lanes write the most.
    _take_turn(host, redis_url, companies[1])
    found: dict[str, list[Turn]] = {each.name: [] for each in companies}
    for number in range(1, repetitions + 1):
        for company in companies:
            turn = _take_turn(host, redis_url, company)
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


def _companies(limit: int) -> Sequence[Company]:
    return (
        Company("defaults", _keep_defaults, children=2, settings={}),
        Company("2 lanes", partial(_keep_lanes, lanes=2, limit=limit), children=2, target=_TARGET),
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
    """The 99th percentile beside the company against the one of the same turn without."""
    return quantile(turn.beside, 0.99) / quantile(turn.alone, 0.99)


def _take_turn(host: Host, redis_url: str, company: Company) -> Turn:
    """The same writers all along: what else the machine does meanwhile weighs on all that is compared."""
    with (
        host.copy() as url,
        tool.started(url, redis_url, children=company.children, settings=company.settings) as started,
        _writing(url) as end,
    ):
        _pass(_WARM_SECONDS)
        before = _pass(_ALONE_SECONDS)
        beside = company.keep(started)
        after = _pass(_ALONE_SECONDS)
        times = end()
    return Turn(_within(times, before, after), _within(times, beside), beside.leads_per_second)


def _keep_defaults(started: Tool) -> Stretch:
    """A run with no option, once it has begun."""
    with started.under_way():
        _pass(_SETTLE_SECONDS)
        return _pass(_DEFAULTS_SECONDS)


def _keep_lanes(started: Tool, *, lanes: int, limit: int) -> Stretch:
    """A whole run at full speed, from its row in the ledger to its finish."""
    walk = started.run(lanes=lanes, limit=limit)
    with psycopg.connect(started.database_url) as connection:
        ((began, ended),) = connection.execute(_SPAN).fetchall()
    return Stretch(began, ended, walk.rate)


def _keep_bare(started: Tool, *, lanes: int, limit: int) -> Stretch:
    return _just_ended(loops.bare(started.database_url, lanes=lanes, limit=limit))


def _keep_one_by_one(started: Tool, *, limit: int) -> Stretch:
    return _just_ended(loops.one_by_one(started.database_url, leads=_ONE_BY_ONE_LEADS, limit=limit))


def _just_ended(walk: Walk) -> Stretch:
    """Its own seconds only: not those in which its processes started."""
    now = time.time()
    return Stretch(now - walk.seconds, now, walk.rate)


def _keep_busy(_started: Tool, *, processes: int) -> Stretch:
    """Processes that keep a core busy each, and touch nothing."""
    command = [sys.executable, "-c", _COMPUTE, str(2 * _BUSY_SECONDS)]
    with ExitStack() as started:
        for _ in range(processes):
            process = started.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL))  # noqa: S603 (ours)
            started.callback(process.kill)
        return _pass(_BUSY_SECONDS)


def _pass(seconds: float) -> Stretch:
    """Let some seconds pass."""
    began = time.time()
    time.sleep(seconds)
    return Stretch(began, time.time())


def _within(times: Sequence[tuple[float, float]], *stretches: Stretch) -> list[float]:
    """What the transactions took that were due in one of these stretches, sorted."""
    return sorted(took for due, took in times if any(each.began <= due <= each.ended for each in stretches))


@contextmanager
def _writing(database_url: str) -> Iterator[Callable[[], list[tuple[float, float]]]]:
    """Writers at work. What is handed out ends them: when each transaction was due, and the milliseconds it took."""
    context = multiprocessing.get_context("spawn")
    together, stopped = context.Barrier(_WRITERS + 1), context.Event()
    with ProcessPoolExecutor(_WRITERS, context, initializer=_remember, initargs=(together, stopped)) as pool:
        writers = [pool.submit(_write, database_url, number) for number in range(_WRITERS)]

        def end() -> list[tuple[float, float]]:
            stopped.set()
            return [each for writer in writers for each in writer.result()]

        try:
            together.wait(_TOGETHER_SECONDS)
            yield end
        except BrokenBarrierError:
            raise BenchmarkError("the writers are not ready: the machine has too much to do") from None
        finally:
            stopped.set()


def _remember(together: Barrier, stopped: Event) -> None:
    """Keep what the writers begin and end by: it can only be inherited, not sent."""
    global _together, _stopped
    _together, _stopped = together, stopped


def _write(database_url: str, writer: int) -> list[tuple[float, float]]:
    """Write until it is enough: when each transaction was due, and how many milliseconds later it was committed."""
    chance = random.Random(writer)  # noqa: S311 (nothing is kept secret)
    times: list[tuple[float, float]] = []
    with psycopg.connect(database_url) as connection:
        leads = connection.execute(_LEADS).fetchall()
        connection.commit()
        _together.wait(_TOGETHER_SECONDS)
        began = time.time() + writer / _WRITERS / _RATE
        while not _stopped.is_set():
            due = began + len(times) / _RATE
            time.sleep(max(0.0, due - time.time()))
            lead, client = chance.choice(leads)
            values = {"id": f"webhook-{writer}-{len(times)}", "lead": lead, "client": client}
            for statement in _WRITE:
                connection.execute(statement, values)
            connection.commit()
            times.append((due, 1000 * (time.time() - due)))
    return times


_together: Barrier
_stopped: Event
