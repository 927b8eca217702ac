"""Our scorers, and both revisions of the host's runner, on one table while our workers are killed again and again."""

import os
import random
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import packages
import psycopg
import pytest
from faults.host_runner import HostRunner
from faults.stage import ATTENTIVE, HERE, Beat
from harness import UNBOUNDED, Backfill, Worker, wait_for, wait_while_moving
from psycopg.rows import dict_row

from sandbox.host.sample import create_schema
from sandbox.servers import Servers

pytestmark = pytest.mark.long

#: How many jobs there are; more: SCORING_JOBS=20000.
JOBS = int(os.environ.get("SCORING_JOBS", "1200"))
CLIENTS = 7

#: What a request costs, in millionths, and what is reserved for it.
COST, BOUND = 90, 140

SCORER = """
import asyncio, os, random
from backfill_tasks.scoring.contract import RetryableError, Score, Scorer, Usage

class Witnessed(Scorer):
    name = "witnessed"
    model = "gpt-5-nano"

    def upper_bound(self, conversation):
        return Usage(2_000, 100)

    async def score(self, conversation):
        with open(os.environ["WITNESS"], "a") as witness:
            witness.write(conversation.job + "\\n")
        await asyncio.sleep(0.1)
        if random.random() < 0.1:
            raise RetryableError("503")
        return Score(3, 3, 3, "ours", Usage(1_000, 100))
"""

FILL = """
INSERT INTO "Client" (id, name, "userId", "updatedAt")
SELECT 'client-' || number, 'client', 'user', now() FROM generate_series(0, %(clients)s - 1) AS number;

INSERT INTO "Lead" (id, "clientId", "updatedAt")
SELECT 'lead-' || number, 'client-' || number %% %(clients)s, '2026-01-01' FROM generate_series(1, %(jobs)s) AS number;

INSERT INTO "Message" (id, "leadId", direction, body)
SELECT 'message-' || number, 'lead-' || number, 'inbound', 'Hello' FROM generate_series(1, %(jobs)s) AS number;

-- Every third job is reserved for our workers; the others are in the host's queue.
INSERT INTO "BackgroundJob" (
  id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "maxAttempts", "updatedAt"
)
SELECT
  'job-' || number, 'LEAD_SCORING_POST_PROCESS', 'PENDING', 'lead_scoring_backfill:lead-' || number,
  'client-' || number %% %(clients)s, 'lead-' || number, 'message-' || number,
  now() + CASE number %% 3 WHEN 0 THEN interval '1 day' ELSE interval '0' END, 3, now()
FROM generate_series(1, %(jobs)s) AS number;
"""


class Crime:
    """The scene: the host's database with its witnesses, and workers to be killed."""

    def __init__(self, backfill: Backfill, jobs: int) -> None:
        self.backfill = backfill
        self.jobs = jobs
        self.workers: list[Worker] = []
        self.killed = 0

    def rows(self, query: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.backfill.database_url, row_factory=dict_row) as connection:
            return connection.execute(query.encode()).fetchall()

    def start_worker(self) -> None:
        queue = f"{self.backfill.environment['BACKFILL_QUEUE']}.scoring"
        self.workers.append(Worker.launch(self.backfill, concurrency=1, options=("-Q", queue)))

    def kill_one(self) -> None:
        """Kill a worker that has done a batch, in the middle of another one, and start one in its place."""
        ready = wait_for(
            lambda: [worker for worker in self.workers if worker.output.count("batch ") >= 2] or self.is_done(),
            what="a worker to do batches",
        )
        if isinstance(ready, list):
            time.sleep(random.uniform(0, 0.5))  # noqa: S311
            worker = random.choice(ready)  # noqa: S311
            worker.kill()
            self.workers.remove(worker)
            self.killed += 1
            self.start_worker()

    def is_done(self) -> bool:
        return not self.rows("SELECT FROM \"BackgroundJob\" WHERE status IN ('PENDING', 'RUNNING') LIMIT 1")

    def progress(self) -> object:
        return self.rows('SELECT status, count(*), max("updatedAt") FROM "BackgroundJob" GROUP BY 1 ORDER BY 1')


@pytest.fixture
def crime(server: Servers, make_database: Callable[..., str], tmp_path: Path) -> Any:
    url = make_database()
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection)
        psycopg.ClientCursor(connection).execute(FILL.encode(), {"jobs": JOBS, "clients": CLIENTS})
        connection.execute((HERE / "scoring_audit.sql").read_bytes())
    folder = tmp_path / "packages"
    folder.mkdir()
    packages.install(
        folder, "witness", {"witnessed": "witnessed:Witnessed"}, group="backfill.scorers", witnessed=SCORER
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
    backfill = Backfill(
        tmp_path,
        {
            **inherited,
            **UNBOUNDED,
            **ATTENTIVE,
            "DATABASE_URL": url,
            "REDIS_URL": server.redis_url,
            "BACKFILL_QUEUE": f"test-{secrets.token_hex(4)}",
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "WITNESS": str(tmp_path / "requests"),
        },
    )
    assert backfill("init").returncode == 0
    made = Crime(backfill, JOBS)
    yield made
    for worker in made.workers:
        if worker.process.poll() is None:
            worker.kill()


def test_no_job_has_two_holders_is_lost_or_is_paid_for_beyond_the_budget(crime: Crime) -> None:
    backfill = crime.backfill
    budget = crime.jobs * BOUND
    runners = [
        HostRunner(backfill.database_url, "older", limit=10, fair=False),
        HostRunner(backfill.database_url, "newest", limit=20, fair=True),
    ]
    with ExitStack() as stack:
        stack.callback(Beat.start(backfill).stop)
        for runner in runners:
            stack.enter_context(runner.running())
        options = ("--batch", "8", "--concurrency", "4", "--parallel", "2", "--max-spend", f"{budget / 1e6:.6f}")
        started = backfill("work", "--scorer", "witnessed", "--detach", *options)
        assert started.returncode == 0, started.stderr
        for _ in range(2):
            crime.start_worker()
        for _ in range(max(3, crime.jobs // 200)):
            crime.kill_one()
        wait_while_moving(crime.is_done, what="every job to end", progress=crime.progress)
    session = backfill.json("work", "--stop")

    assert crime.rows("SELECT * FROM audit.wrong") == []
    unfinished = "status NOT IN ('SUCCEEDED', 'FAILED') OR status = 'FAILED' AND attempts < \"maxAttempts\""
    assert crime.rows(f'SELECT * FROM "BackgroundJob" WHERE {unfinished}') == []
    unscored = """
        SELECT lead.id FROM "Lead" AS lead JOIN "BackgroundJob" AS job ON job."leadId" = lead.id
        WHERE (job.status = 'SUCCEEDED') <> (lead."overallScore" IS NOT NULL)
    """
    assert crime.rows(unscored) == []
    assert crime.rows("SELECT lead FROM audit.score GROUP BY lead HAVING count(*) > 1") == []
    requests = len(Path(backfill.environment["WITNESS"]).read_text().splitlines())
    assert requests * COST <= session["spent_micros"] + session["reserved_micros"] <= budget
    holders = {
        row["holder"] for row in crime.rows("SELECT DISTINCT split_part(holder, ':', 1) AS holder FROM audit.held")
    }
    assert holders == {"older", "newest", "backfill"}
