"""Processes that write as the host does when a message comes in, and how long each transaction takes.

The load is open: messages come at their own times, however long the writes take, so a time counts from when the message
came, and a writer that is late makes those behind it late.

Cores to spare: on the host's machines a transaction finds a core free at once. On one with few, which all share, it
does where the writers and their sessions at the server take the core from whatever else has it: Linux's real-time class
(sched(7)). What they wait for then is what they would wait for there too: locks, the log, the disk. A lock that another
session holds which lost its core to them is waited for a little longer than there.
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
#: Transactions a second of each writer, which is far more than a host's webhooks: a run of seconds has to meet enough
#: of them for a 99th percentile.
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
    """Whether this machine lets the writers and their sessions go first. It takes a server here, and the right to."""
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
    """Writers at work. What is handed out ends them: when each transaction was due, and the milliseconds it took.

    `spare_cores`: as with cores to spare for them.
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
            raise BenchmarkError("the writers are not ready: the machine has too much to do") from None
        finally:
            stopped.set()


def _remember(together: Barrier, stopped: Event) -> None:
    """Keep what the writers begin and end by: it can only be inherited, not sent."""
    global _together, _stopped
    _together, _stopped = together, stopped


def _write(database_url: str, writer: int, *, spare_cores: bool) -> list[tuple[float, float]]:
    """Write until it is enough: when each transaction was due, and how many milliseconds later it was committed."""
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
    """Let a process take a core from all that are not of its class, for as long as it lives."""
    os.sched_setscheduler(process, os.SCHED_RR, os.sched_param(1))


_together: Barrier
_stopped: Event
