"""Processes that write as the host does when a message arrives, and how long their transactions take.

The load is open: messages arrive on schedule, however long the writes take. A time counts from the arrival, so a late
writer delays the messages behind it as well.

Spare cores: on the host's machines a transaction finds a free core at once. On a small machine we get the same effect
by giving the writers and their sessions Linux's real-time class (sched(7)), which preempts everything else. What they
then wait for, they would wait for there too: locks, the log, the disk. Only a lock takes slightly longer than there if
its owner lost its core to the writers.
"""

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from threading import BrokenBarrierError

import psycopg

from benchmarks.walk import BenchmarkError

_WRITERS = 4
#: Transactions per second and writer. Far more than a host's webhooks, because a run of seconds needs enough of them
#: for a 99th percentile.
_RATE = 25.0

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


def can_spare_cores(server_url: str) -> bool:
    """Return whether the writers and their sessions can get priority: needs a local PostgreSQL and the privilege."""
    with psycopg.connect(server_url) as connection:
        session = connection.info.backend_pid
        try:
            if Path(f"/proc/{session}/comm").read_text(encoding="utf-8") != "postgres\n":
                return False
            _go_first(session)
        except OSError:
            return False
    return True


@contextmanager
def writing(database_url: str, *, spare_cores: bool) -> Iterator[Callable[[], list[tuple[float, float]]]]:
    """Run writers while the block runs. The function it yields ends them and returns each due time with its duration.

    Due times are Unix times, durations are in milliseconds. `spare_cores`: give the writers priority.
    """
    context = multiprocessing.get_context("spawn")
    together, stopped = context.Barrier(_WRITERS + 1), context.Event()
    with ProcessPoolExecutor(_WRITERS, context, initializer=_remember, initargs=(together, stopped)) as pool:
        writers = [pool.submit(_write, database_url, number, spare_cores=spare_cores) for number in range(_WRITERS)]

        def end() -> list[tuple[float, float]]:
            stopped.set()
            return [each for writer in writers for each in writer.result()]

        try:
            together.wait(_TOGETHER_SECONDS)
            yield end
        except BrokenBarrierError:
            raise BenchmarkError("the writers are not ready: the machine is overloaded") from None
        finally:
            stopped.set()


def _remember(together: Barrier, stopped: Event) -> None:
    """Keep the barrier and the event in globals: a process can inherit them, but not receive them as arguments."""
    global _together, _stopped
    _together, _stopped = together, stopped


def _write(database_url: str, writer: int, *, spare_cores: bool) -> list[tuple[float, float]]:
    """Write until stopped. Return when each transaction was due, and how many milliseconds later it was committed."""
    chance = random.Random(writer)  # noqa: S311 (nothing is kept secret)
    times: list[tuple[float, float]] = []
    with psycopg.connect(database_url) as connection:
        if spare_cores:
            _go_first(os.getpid())
            _go_first(connection.info.backend_pid)
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


def _go_first(process: int) -> None:
    """Give a process the real-time class for the rest of its life."""
    os.sched_setscheduler(process, os.SCHED_RR, os.sched_param(1))


_together: Barrier
_stopped: Event
