"""How long a webhook's transaction takes: without a backfill, and beside one at full speed.

Modelled: processes that write as the host does when a message comes in, to leads all over the tables that the backfill
walks: insert the message, update the lead, insert a live job, commit, on the disk. The load is open: messages come at
their own times, however long the writes take, so a time counts from when the message came, and a writer that is late
makes those behind it late. The backfill is at full speed: nothing spreads or bounds its jobs.

Not modelled: a network, and a database server of its own. Here the backfill's workers, the writers and PostgreSQL share
the machine's cores, and a transaction whose next step finds no core free waits for one, for up to a scheduler's slice.
Any process that computes does that to it, whatever it computes. So there is a control: the same writers beside as many
processes as the backfill has lanes, which loop and touch nothing, neither the database nor the disk. What the backfill
adds to that is its own: its locks, its log that a commit has to flush, the pages that it puts out of memory.
"""

import logging
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier, Event
from threading import BrokenBarrierError

import psycopg

from benchmarks import tool
from benchmarks.host import Host
from benchmarks.report import Line
from benchmarks.simulator import quantile
from benchmarks.walk import BenchmarkError

logger = logging.getLogger("benchmarks")

_WRITERS = 4
#: Transactions a second of each writer, which is far more than a host's webhooks: a run of seconds has to meet enough
#: of them for a 99th percentile.
_RATE = 25.0

#: By lanes: the 99th percentile beside the backfill against the one without.
_TARGETS = {2: 1.3}

_WARM_SECONDS = 2.0
_ALONE_SECONDS = 6.0
_BUSY_SECONDS = 8.0
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
class Turn:
    """How long transactions took in one turn, in milliseconds, sorted.

    Attributes:
        alone: those of some seconds before, between and after the other two.
        busy: those beside as many busy processes as the backfill had lanes.
        backfill: those that were due while it ran.
        leads_per_second: how fast it was.
    """

    alone: Sequence[float]
    busy: Sequence[float]
    backfill: Sequence[float]
    leads_per_second: float


def measure(host: Host, redis_url: str, *, limit: int, repetitions: int) -> list[Line]:
    """Beside a backfill of two lanes and one of one lane, in turns, each on a fresh copy of the host database."""
    found: dict[int, list[Turn]] = {2: [], 1: []}
    for number in range(1, repetitions + 1):
        for lanes, turns in found.items():
            turns.append(_take_turn(host, redis_url, lanes=lanes, limit=limit))
            (ratio,) = _ratios([turns[-1].backfill], [turns[-1].alone])
            logger.info("%d/%d  %-8s%6.2f times as long", number, repetitions, _names(lanes)[0], ratio)
    return [
        *_times("no backfill", [turn.alone for turns in found.values() for turn in turns]),
        *(line for lanes, turns in found.items() for line in _figures(lanes, turns)),
        *(line for lanes, turns in found.items() for line in _comparisons(lanes, turns)),
    ]


def _figures(lanes: int, turns: Sequence[Turn]) -> list[Line]:
    walking, computing = _names(lanes)
    return [
        *_times(computing, [turn.busy for turn in turns]),
        *_times(walking, [turn.backfill for turn in turns]),
        Line(f"{walking}: transactions", [len(turn.backfill) for turn in turns], unit=""),
        Line(f"{walking}: leads", [turn.leads_per_second for turn in turns], unit="/s"),
    ]


def _comparisons(lanes: int, turns: Sequence[Turn]) -> list[Line]:
    walking, computing = _names(lanes)
    alone, busy, backfill = zip(*((turn.alone, turn.busy, turn.backfill) for turn in turns), strict=True)
    return [
        Line(f"p99, {walking} / none", _ratios(backfill, alone), _TARGETS.get(lanes), "less"),
        Line(f"p99, {computing} / none", _ratios(busy, alone)),
        Line(f"p99, {walking} / {computing}", _ratios(backfill, busy)),
    ]


def _times(name: str, turns: Sequence[Sequence[float]]) -> list[Line]:
    return [
        Line(f"{name}: median", [quantile(times, 0.5) for times in turns], unit="ms"),
        Line(f"{name}: p99", [quantile(times, 0.99) for times in turns], unit="ms"),
        Line(f"{name}: longest", [times[-1] for times in turns], unit="ms"),
    ]


def _ratios(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> list[float]:
    """The 99th percentile of one against the other's, turn by turn."""
    return [quantile(a, 0.99) / quantile(b, 0.99) for a, b in zip(one, other, strict=True)]


def _names(lanes: int) -> tuple[str, str]:
    """The backfill and its control, as the lines call them."""
    return f"{lanes} lane{'s' * (lanes > 1)}", f"{lanes} busy process{'es' * (lanes > 1)}"


def _take_turn(host: Host, redis_url: str, *, lanes: int, limit: int) -> Turn:
    """The same writers all along: what else the machine does meanwhile weighs on all that is compared."""
    with host.copy() as url, tool.started(url, redis_url, children=lanes) as started, _writing(url) as end:
        time.sleep(_WARM_SECONDS)
        alone = [_pass(_ALONE_SECONDS)]
        with _processes_that_compute(lanes):
            busy = _pass(_BUSY_SECONDS)
        alone.append(_pass(_ALONE_SECONDS))
        walk = started.run(lanes=lanes, limit=limit)
        alone.append(_pass(_ALONE_SECONDS))
        times = end()
        with psycopg.connect(url) as connection:
            ((began, ended),) = connection.execute(_SPAN).fetchall()
    return Turn(
        alone=_within(times, *alone),
        busy=_within(times, busy),
        backfill=_within(times, (began, ended)),
        leads_per_second=walk.rate,
    )


def _pass(seconds: float) -> tuple[float, float]:
    """Let some seconds pass; from when to when."""
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


def _within(times: Sequence[tuple[float, float]], *spans: tuple[float, float]) -> list[float]:
    """What the transactions took that were due in one of these spans, sorted."""
    return sorted(took for due, took in times if any(began <= due <= ended for began, ended in spans))


@contextmanager
def _processes_that_compute(number: int) -> Iterator[None]:
    """So many processes that keep a core busy each, as long as the block lasts."""
    command = [sys.executable, "-c", _COMPUTE, str(2 * _BUSY_SECONDS)]
    with ExitStack() as started:
        for _ in range(number):
            process = started.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL))  # noqa: S603 (ours)
            started.callback(process.kill)
        yield


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
