"""A run without options beside a host that drains its queue: it takes what live jobs leave."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from acceptance.host import Host
from harness import UNBOUNDED, Backfill, Worker, wait_for

PERIOD, LIMIT = 2.0, 10

#: The drain of this host; everything else that depends on the machine's load is off.
SETTINGS = {
    "BACKFILL_DRAIN_SECONDS": f"{PERIOD}",
    "BACKFILL_DRAIN_LEAD_SECONDS": "0.7",
    "BACKFILL_PRESSURE_SECONDS": "0.2",
}

LIVE = """
INSERT INTO "BackgroundJob" (id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt")
SELECT
  key, 'EMAIL_INBOUND_POST_PROCESS', 'PENDING', key, lead."clientId", lead.id, message.id,
  now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
FROM (SELECT 'live-' || gen_random_uuid() AS key FROM generate_series(1, 3)) AS live
CROSS JOIN LATERAL (SELECT * FROM "Message" LIMIT 1) AS message
JOIN "Lead" AS lead ON lead.id = message."leadId"
"""

TAKE = """
UPDATE "BackgroundJob"
SET status = 'SUCCEEDED', "startedAt" = now() AT TIME ZONE 'UTC', "finishedAt" = now() AT TIME ZONE 'UTC'
WHERE status = 'PENDING' AND id IN (
  SELECT id FROM "BackgroundJob"
  WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC' ORDER BY "runAt" LIMIT %s
)
RETURNING starts_with("dedupeKey", 'live-')
"""

WAITING = """
SELECT
  count(*) FILTER (WHERE starts_with("dedupeKey", 'live-')),
  count(*) FILTER (WHERE starts_with("dedupeKey", 'lead_scoring_backfill:'))
FROM "BackgroundJob" WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
"""


@dataclass
class Runner:
    """A host's runner: every two seconds it takes the ten oldest due jobs, three of which are live on average.

    `live_left`: how many live jobs each call left. `ours_due`: how many of our jobs were due at it.
    """

    url: str
    live_left: list[int] = field(default_factory=list)
    ours_due: list[int] = field(default_factory=list)
    taken: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._go)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _go(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while True:
                call = (math.floor(time.time() / PERIOD) + 1) * PERIOD
                if self._ended.wait(max(0.0, call - PERIOD / 2 - time.time())):
                    return
                connection.execute(LIVE)
                time.sleep(max(0.0, call - time.time()))
                _, due = connection.execute(WAITING).fetchone() or (0, 0)
                taken = connection.execute(TAKE, [LIMIT]).fetchall()
                left, _ = connection.execute(WAITING).fetchone() or (0, 0)
                self.taken += sum(not live for (live,) in taken)
                self.ours_due.append(due)
                self.live_left.append(left)


@pytest.fixture
def plain(alone: Backfill, inhabited: Host) -> Iterator[Backfill]:
    """The command without any option or setting for a run's pace, and a worker."""
    inhabited.execute('DELETE FROM "BackgroundJob"')
    kept = {name for name in UNBOUNDED if name not in {"BACKFILL_MAX_PENDING", "BACKFILL_DRAIN_SECONDS"}}
    environment = {name: each for name, each in alone.environment.items() if name not in UNBOUNDED or name in kept}
    command = Backfill(alone.directory, {**environment, **SETTINGS})
    worker = Worker.start(command)
    yield command
    worker.stop()


@pytest.mark.long
def test_a_run_without_options_takes_what_the_live_jobs_leave(plain: Backfill, inhabited: Host) -> None:
    runner = Runner(inhabited.url)
    with runner.at_work():
        run = plain.json("run", "--apply", "--detach")["run_id"]
        bound = wait_for(
            lambda: (plain.json("status", run)["bound"] or {}).get("per_call") == LIMIT and plain.json("status", run),
            what="the host's drain to be measured",
        )["bound"]
        already = runner.taken
        wait_for(lambda: runner.taken >= already + 40, what="forty more jobs to be taken")
    plain("cancel", run)

    assert bound["jobs"] in (LIMIT, LIMIT + 1)
    assert f"the host takes {LIMIT} every {PERIOD:g} s" in bound["reason"]
    # The first offers may exceed what the host takes; then only probes do, by one job.
    assert max(runner.ours_due[-4:]) <= LIMIT + 1
    assert sum(left > 3 for left in runner.live_left) == 0
