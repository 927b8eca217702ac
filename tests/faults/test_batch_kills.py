"""`openai-batch` with real workers that are killed again and again, and the host's runner beside them.

The provider takes its time for every step, and ends batches with results, without them, and half done.
"""

import os
import random
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from faults.host_runner import HostRunner
from faults.stage import ATTENTIVE, HERE, Beat
from faults.test_scoring_kills import CLIENTS, FILL, Crime
from harness import UNBOUNDED, Backfill, wait_while_moving
from scoring.batch_server import BatchServer, Json, answered, dropped, expired, serving_batches

from sandbox.host.sample import create_schema
from sandbox.servers import Servers

pytestmark = pytest.mark.long

#: How many jobs there are.
JOBS = int(os.environ.get("SCORING_JOBS", "240"))


def fate(number: int, request: Json) -> tuple[Json | None, bool]:
    """Answer most requests; the others expire or are passed over in silence."""
    return random.choices((answered, expired, dropped), weights=(8, 1, 1))[0](number, request)  # noqa: S311


@contextmanager
def at_work(provider: BatchServer, *, loses: bool) -> Iterator[None]:
    """Have the provider work off its batches now and then, and lose one of ten if asked to.

    It never loses one that it hasn't reported yet: what nobody has seen can't be told from what was never made.
    """
    over = threading.Event()

    def work() -> None:
        while not over.wait(random.uniform(0.5, 3)):  # noqa: S311
            provider.verdict = random.choice(("completed", "completed", "expired", "failed"))  # noqa: S311
            provider.work()
            if loses:
                with provider.lock:
                    for each in provider.asked_for & set(provider.batches):
                        if random.random() < 0.1:  # noqa: S311
                            del provider.batches[each]

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def provider() -> Iterator[BatchServer]:
    with serving_batches() as made:
        made.fate = fate
        made.latency = lambda: random.uniform(0, 0.15)  # noqa: S311
        yield made


@pytest.fixture
def crime(
    server: Servers,
    make_database: Callable[..., str],
    tmp_path: Path,
    provider: BatchServer,
) -> Iterator[Crime]:
    url = make_database()
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection)
        psycopg.ClientCursor(connection).execute(FILL.encode(), {"jobs": JOBS, "clients": CLIENTS})
        connection.execute((HERE / "scoring_audit.sql").read_bytes())
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BACKFILL_", "OPENAI_"))}
    own = {
        "DATABASE_URL": url,
        "REDIS_URL": server.redis_url,
        "BACKFILL_QUEUE": f"test-{secrets.token_hex(4)}",
        "OPENAI_API_KEY": "key",
        "OPENAI_BASE_URL": provider.url,
    }
    backfill = Backfill(tmp_path, {**inherited, **UNBOUNDED, **ATTENTIVE, **own})
    assert backfill("init").returncode == 0
    made = Crime(backfill, JOBS)
    yield made
    for worker in made.workers:
        if worker.process.poll() is None:
            worker.kill()


@pytest.mark.parametrize("loses", [False, True], ids=["", "and the provider loses batches"])
def test_every_lead_is_paid_for_once_and_has_one_holder(crime: Crime, provider: BatchServer, *, loses: bool) -> None:
    backfill = crime.backfill
    runner = HostRunner(backfill.database_url, "newest", limit=2, fair=True)
    with ExitStack() as stack:
        stack.enter_context(at_work(provider, loses=loses))
        stack.callback(Beat.start(backfill).stop)
        options = ("--batch", "8", "--parallel", "4", "--max-spend", "5.00", "--until-done")
        started = backfill("work", "--scorer", "openai-batch", "--detach", *options)
        assert started.returncode == 0, started.stderr
        for _ in range(2):
            crime.start_worker()
        stack.enter_context(runner.running())
        for _ in range(max(4, crime.jobs // 40)):
            crime.kill_one()
        wait_while_moving(crime.is_done, what="every job to end", progress=crime.progress)
        wait_while_moving(
            lambda: not backfill.json("work", "--status")["at_provider"]["batches"],
            what="every batch to be closed",
            progress=lambda: backfill.json("work", "--status")["batches"],
        )
    session = backfill.json("work", "--status")

    ended = crime.rows('SELECT status, count(*) FROM "BackgroundJob" GROUP BY 1')
    assert crime.rows("SELECT * FROM audit.wrong") == [], ended
    assert crime.rows("SELECT lead FROM audit.score GROUP BY lead HAVING count(*) > 1") == []
    assert crime.rows("SELECT id FROM \"BackgroundJob\" WHERE status NOT IN ('SUCCEEDED', 'FAILED')") == []
    ours = scored_by(crime, "It fits.")
    assert len(ours) >= session["counts"]["scored"]  # the counts of a killed worker's last batch are lost
    unscored = """
        SELECT lead.id FROM "Lead" AS lead JOIN "BackgroundJob" AS job ON job."leadId" = lead.id
        WHERE (job.status = 'SUCCEEDED') <> (lead."overallScore" IS NOT NULL)
    """
    assert crime.rows(unscored) == []
    paid = Counter(provider.paid)
    assert set(paid) >= ours
    assert paid.total() <= len(ours) + session["ambiguous_requests"]
    if not loses:
        assert session["ambiguous_requests"] == 0
        assert (set(paid), paid.total()) == (ours, len(ours))
    assert session["reserved_micros"] == 0
    assert session["spent_micros"] <= 5_000_000
    assert provider.files == {} or loses


def scored_by(crime: Crime, reasoning: str) -> set[Any]:
    """Return the jobs whose leads have a score with this reasoning."""
    query = """SELECT 'job-' || split_part(id, '-', 2) AS job FROM "Lead" WHERE "scoreReasoning" = """
    return {row["job"] for row in crime.rows(f"{query}'{reasoning}'")}
