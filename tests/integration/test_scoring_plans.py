"""Every statement of a batch reads about a batch, on a large table and without statistics."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from integration.plans import Plan, explained
from integration.site import Site

from backfill_tasks.scoring import claims, reading
from backfill_tasks.scoring.claims import Claims, Result
from backfill_tasks.scoring.contract import Score
from sandbox.host.sample import create_schema
from sandbox.servers import Servers

LEADS = 20_000
BATCH = 50

FILL = f"""
ALTER TABLE "BackgroundJob" SET (autovacuum_enabled = false);
INSERT INTO "Client" (id, name, "userId", "updatedAt") VALUES ('client', 'client', 'user', now());
INSERT INTO "Lead" (id, "clientId", "updatedAt")
SELECT 'lead-' || number, 'client', now() FROM generate_series(1, {LEADS}) AS number;
INSERT INTO "Message" (id, "leadId", direction, body)
SELECT 'message-' || number, 'lead-' || number, 'inbound', 'Hello' FROM generate_series(1, {LEADS}) AS number;

-- Three quarters have ended; of the others, half are due and half are reserved.
INSERT INTO "BackgroundJob" (
  id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "maxAttempts", "updatedAt"
)
SELECT
  'job-' || number, 'LEAD_SCORING_POST_PROCESS',
  (CASE WHEN number % 4 = 0 THEN 'PENDING' ELSE 'SUCCEEDED' END)::"BackgroundJobStatus",
  'lead_scoring_backfill:lead-' || number, 'client', 'lead-' || number, 'message-' || number,
  now() + interval '1 day' * (number % 8 - 3), 3, now()
FROM generate_series(1, {LEADS}) AS number;
"""


@pytest.fixture(scope="module")
def filled(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    url = make_database()
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection)
        connection.execute(FILL.encode())
    made = Site(url, server.redis_url)
    made.migrate()
    yield made
    made.close()


def assert_by_index(plans: list[Plan], *, jobs: float) -> None:
    assert plans
    assert [scan for plan in plans for scan in plan.whole] == []
    assert max(plan.rows("BackgroundJob") for plan in plans) <= jobs


def test_a_batch_is_claimed_read_renewed_and_finished_by_index(filled: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_POOL", 8 * BATCH)
    held = Claims("public", "backfill:plans")
    with explained(filled.engine) as plans:
        with filled.engine.begin() as connection:
            jobs = held.claim(connection, BATCH)
        with filled.engine.begin() as connection:
            found = reading.read(connection, "public", jobs)
        with filled.engine.begin() as connection:
            held.renew(connection, found)
        with filled.engine.begin() as connection:
            held.finish(connection, [Result(job, "scored", Score(3, 3, 3, "")) for job in found])

    assert len(found) == BATCH
    # A claim reads two pools, checks each job again, and updates the batch.
    assert_by_index(plans, jobs=2 * 2 * 8 * BATCH + BATCH)


def test_abandoned_jobs_are_looked_for_by_index(filled: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_POOL", 100)
    with explained(filled.engine) as plans, filled.engine.begin() as connection:
        claims.release(connection, "public")

    assert_by_index(plans, jobs=200)


def test_whether_a_job_is_left_is_found_out_by_index(filled: Site) -> None:
    with explained(filled.engine) as plans, filled.engine.begin() as connection:
        assert claims.any_left(connection, "public")

    assert_by_index(plans, jobs=10)
