"""How long a webhook's transaction takes: without a backfill, and beside one at full speed.

Modelled: processes that write as the host does when a message comes in, to leads all over the tables that the backfill
walks: insert the message, update the lead, insert a live job, commit, on the disk. The load is open: messages come at
their own times, however long the writes take, so a time counts from when the message came, and a writer that is late
makes those behind it late. The backfill is at full speed: nothing spreads or bounds its jobs.

Not modelled: a network, and a database server of its own. Here the backfill's workers, the writers and PostgreSQL share
the machine's cores, so that where a worker computes, PostgreSQL does not: on two cores the ratio is rather worse than
where the workers run elsewhere.
"""

import logging
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
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

_TARGET = 1.3

_WARM_SECONDS = 2.0
_ALONE_SECONDS = 6.0
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


@dataclass(frozen=True)
class Backfill:
    """A backfill at full speed, by its lanes (and so many worker processes) and its page size."""

    lanes: int
    limit: int

    def __str__(self) -> str:
        return f"{self.lanes} lane{'s' * (self.lanes > 1)}, pages of {self.limit}"


@dataclass(frozen=True)
class Turn:
    """How long transactions took in one turn, in milliseconds, sorted.

    Attributes:
        alone: those of some seconds before the backfill and as many after it.
        beside: those that were due while it ran.
        leads_per_second: how fast it was.
    """

    alone: Sequence[float]
    beside: Sequence[float]
    leads_per_second: float

    @property
    def ratio(self) -> float:
        """The 99th percentile beside the backfill against the one without it."""
        return quantile(self.beside, 0.99) / quantile(self.alone, 0.99)


def measure(host: Host, redis_url: str, *, limit: int, repetitions: int) -> list[Line]:
    """Beside several backfills, in turns, each on a fresh copy of the host database."""
    backfills = [Backfill(lanes, size) for size in (limit, max(1, limit // 5)) for lanes in (2, 1)]
    found: dict[Backfill, list[Turn]] = {backfill: [] for backfill in backfills}
    for number in range(1, repetitions + 1):
        for backfill, turns in found.items():
            turns.append(_take_turn(host, redis_url, backfill))
            logger.info("%d/%d  %-24s%.2f times as long", number, repetitions, backfill, turns[-1].ratio)
    return [
        *_lines("no backfill", [turn.alone for turns in found.values() for turn in turns]),
        *(line for each, turns in found.items() for line in _lines(str(each), [turn.beside for turn in turns])),
        *(
            Line(f"{each}: leads", [turn.leads_per_second for turn in turns], unit="/s")
            for each, turns in found.items()
        ),
        *(
            Line(
                f"p99, {each} / none", [turn.ratio for turn in turns], _TARGET if each == backfills[0] else None, "less"
            )
            for each, turns in found.items()
        ),
    ]


def _lines(name: str, turns: Sequence[Sequence[float]]) -> list[Line]:
    return [
        Line(f"{name}: median", [quantile(times, 0.5) for times in turns], unit="ms"),
        Line(f"{name}: p99", [quantile(times, 0.99) for times in turns], unit="ms"),
        Line(f"{name}: longest", [times[-1] for times in turns], unit="ms"),
    ]


def _take_turn(host: Host, redis_url: str, backfill: Backfill) -> Turn:
    """The same writers without the backfill, beside it, and without it again: what else the machine does is in both."""
    with (
        host.copy() as url,
        tool.started(url, redis_url, children=backfill.lanes) as started,
        _writing(url) as end,
    ):
        time.sleep(_WARM_SECONDS)
        before = time.time()
        time.sleep(_ALONE_SECONDS)
        until = time.time()
        walk = started.run(lanes=backfill.lanes, limit=backfill.limit)
        after = time.time()
        time.sleep(_ALONE_SECONDS)
        times = end()
        with psycopg.connect(url) as connection:
            ((began, ended),) = connection.execute(_SPAN).fetchall()
    return Turn(
        alone=sorted(took for due, took in times if before <= due <= until or due >= after),
        beside=sorted(took for due, took in times if began <= due <= ended),
        leads_per_second=walk.rate,
    )


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
