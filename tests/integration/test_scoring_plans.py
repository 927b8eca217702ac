"""Every statement of a batch reads about a batch, on a large table, whatever the planner knows about it."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from integration.plans import Plan, explained
from integration.site import Site
from long_forms import long
from sqlalchemy import Connection, text

from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.scoring import claims, overview, reading, sessions, spend
from backfill_tasks.scoring.claims import Claims, Result, submission_holder
from backfill_tasks.scoring.contract import Score, Usage
from backfill_tasks.scoring.jobs import KEY_PREFIX
from backfill_tasks.scoring.openai_batch import ledger
from backfill_tasks.scoring.openai_batch.ledger import Place
from backfill_tasks.scoring.statements import file
from sandbox.host.sample import create_schema
from sandbox.servers import Servers

LEADS = 20_000
BATCH = 50
BATCHES = 1_000

FILL = f"""
ALTER TABLE "BackgroundJob" SET (autovacuum_enabled = false);
INSERT INTO "Client" (id, name, "userId", "updatedAt") VALUES ('client', 'client', 'user', now());
INSERT INTO "Lead" (id, "clientId", "updatedAt")
SELECT 'lead-' || number, 'client', now() FROM generate_series(1, {LEADS}) AS number;
INSERT INTO "Message" (id, "leadId", direction, body)
SELECT 'message-' || number, 'lead-' || number, 'inbound', 'Hello' FROM generate_series(1, {LEADS}) AS number;

INSERT INTO "BackgroundJob" (
  id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "maxAttempts", "updatedAt"
)
SELECT
  'job-' || number, 'LEAD_SCORING_POST_PROCESS', 'SUCCEEDED',
  'lead_scoring_backfill:lead-' || number, 'client', 'lead-' || number, 'message-' || number,
  now() + interval '1 day' * (number % 8 - 3), 3, now()
FROM generate_series(1, {LEADS}) AS number;
"""

#: Half of the jobs have ended, a quarter is due or reserved, and a quarter runs: a batch of ours, and many of others.
BUSY = f"""
UPDATE "BackgroundJob" SET status = 'PENDING' WHERE substr(id, 5)::integer % 4 = 0;
UPDATE "BackgroundJob" SET status = 'RUNNING', "lockedAt" = now() + interval '1 day', "lockedBy" = 'backfill:other'
WHERE substr(id, 5)::integer % 4 = 1;
UPDATE "BackgroundJob" SET "lockedBy" = 'backfill:plans' WHERE id IN (
  SELECT id FROM "BackgroundJob" WHERE status = 'RUNNING' ORDER BY id LIMIT {BATCH}
);
INSERT INTO backfill.scoring (id, scorer, state, parameters, started_by)
VALUES ('session', 'openai-batch', 'running', '{{}}', 'test');
INSERT INTO backfill.scoring_slot (session_id, number) SELECT 'session', number FROM generate_series(1, 8) AS number;
INSERT INTO backfill.batch (id, account, model, state, requests, input_tokens, output_tokens, session_id, slot)
SELECT
  'batch-' || number, 'account', 'model', CASE WHEN number > {BATCHES} - 8 THEN 'submitted' ELSE 'closed' END, 0, 0, 0,
  'session', number % 8 + 1
FROM generate_series(1, {BATCHES}) AS number;
INSERT INTO backfill.batch_request (batch_id, job, is_open)
SELECT 'batch-' || batch, 'request-' || number, batch > {BATCHES} - 8
FROM generate_series(1, {BATCHES * 20}) AS number
CROSS JOIN LATERAL (SELECT number % {BATCHES} + 1) AS its (batch);
INSERT INTO backfill.spend (holder, session_id, slot, generation, model, requests, reserved)
SELECT 'backfill:' || id, session_id, slot, 1, model, 20, 0 FROM backfill.batch;
"""

#: The tables of the ledger that grow with every batch.
LEDGER = ("batch", "batch_request", "spend")


@pytest.fixture(scope="module", params=["missing", "fresh", *long("before", "at its height")])
def filled(request: pytest.FixtureRequest, make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """Yield a site with many jobs, and with statistics of them: none, those of now, of before the run, or amid it."""
    url = make_database()
    made = Site(url, server.redis_url)
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection)
        made.migrate()
        connection.execute("".join(f"ALTER TABLE backfill.{each} SET (autovacuum_enabled = false);" for each in LEDGER))
        connection.execute(FILL.encode())
        if request.param == "before":
            connection.execute("ANALYZE")
        if request.param == "at its height":
            connection.execute("""UPDATE "BackgroundJob" SET status = 'PENDING'""")
            connection.execute("ANALYZE")
            connection.execute("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED'""")
        connection.execute(BUSY.encode())
        if request.param == "fresh":
            connection.execute("ANALYZE")
    yield made
    made.close()


@pytest.fixture
def undone(filled: Site) -> Iterator[Connection]:
    """Yield a transaction that is rolled back."""
    with filled.engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


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


def test_abandoned_jobs_are_looked_for_by_index(
    filled: Site, undone: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_POOL", 100)
    with explained(filled.engine) as plans:
        claims.release(undone, "public")

    # The running jobs, and a pool of the due ones.
    assert_by_index(plans, jobs=LEADS / 4 + 200)


def test_a_submission_is_leased_renewed_and_finished_without_the_jobs_of_others(
    filled: Site, undone: Connection
) -> None:
    held = Claims("public", "backfill:plans")
    ours = [
        row["id"] for row in filled.host.rows("""SELECT id FROM "BackgroundJob" WHERE "lockedBy" = 'backfill:plans'""")
    ]
    with explained(filled.engine) as plans:
        kept = held.renew(undone, ours)
        leased = held.lease(undone, ours, "batch-1")
        results = [Result(job, "scored", Score(3, 3, 3, "")) for job in ours]
        written = Claims("public", submission_holder("batch-1")).finish(undone, results)

    assert (len(ours), len(kept), len(leased), written.scored) == (BATCH, BATCH, BATCH, BATCH)
    assert_by_index(plans, jobs=2 * BATCH)


def test_waiting_jobs_are_counted_by_index(filled: Site, undone: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_MOST", 100)
    begin_read_only(undone, statement_ms=15_000)
    with explained(filled.engine) as plans:
        overview.overview(undone, "public")

    assert_by_index(plans, jobs=200)


def test_the_doctor_reads_a_pool_of_waiting_jobs_and_their_workspaces_once(filled: Site, undone: Connection) -> None:
    begin_read_only(undone, statement_ms=15_000)
    with explained(filled.engine) as plans:
        found = (
            undone.execute(file("without_profile", "public"), {"key_prefix": KEY_PREFIX, "pool": 100}).scalars().all()
        )

    assert found == ["client"]
    assert max(plan.rows("BackgroundJob") for plan in plans) <= 100
    assert max(plan.rows("WorkspaceSettings") for plan in plans) <= 1


def test_a_turn_of_the_batch_scorer_reads_its_own_submission_only(filled: Site, undone: Connection) -> None:
    place, mine = Place("session", 1), f"batch-{BATCHES}"
    with explained(filled.engine, ("batch_request", "spend")) as plans:
        [found] = ledger.in_state(undone, place, "submitted")
        ledger.record(undone, "new", place, "account", "model", [f"request-{number}" for number in range(20)])
        ledger.bound(undone, "new", {}, {}, Usage())
        ledger.ended(undone, found.id, "completed", [])
        ledger.written(undone, found.id)
        spend.settle(undone, submission_holder(found.id), spend.Bill(0, 0, Usage()))

    assert found.id == mine
    assert len(found.jobs) == 20
    assert plans
    assert max(plan.rows("batch_request") for plan in plans) <= 3 * 20
    assert max(plan.rows("spend") for plan in plans) <= 1


def test_a_cost_forecast_reads_a_share_of_the_leads(filled: Site, undone: Connection) -> None:
    choice = {"client_ids": None, "rescore_all": True, "after": None, "disqualifying": []}
    begin_read_only(undone, statement_ms=15_000)
    with explained(filled.engine) as plans:
        undone.execute(file("sample", "public"), {**choice, "percent": 10, "candidates": 100, "most": 50})

    assert max(plan.rows("Lead") for plan in plans) <= LEADS / 3
    assert max(plan.rows("Message") for plan in plans) <= 100


def test_what_a_model_has_used_is_read_in_one_pass(filled: Site, undone: Connection) -> None:
    begin_read_only(undone, statement_ms=15_000)
    with explained(filled.engine, ("spend",)) as plans:
        undone.execute(file("measured"), {"model": "model", "batches": 200})

    assert [plan.rows("spend") for plan in plans] == [BATCHES]


def test_a_session_is_read_in_one_pass_of_its_batches(filled: Site, undone: Connection) -> None:
    begin_read_only(undone, statement_ms=15_000)
    with explained(filled.engine, ("spend", "batch")) as plans:
        sessions.read(undone, "session")

    assert max(plan.rows("spend") for plan in plans) == BATCHES
    assert max(plan.rows("batch") for plan in plans) <= 12 * BATCHES


def test_whether_a_job_is_left_is_found_out_by_index(filled: Site) -> None:
    with explained(filled.engine) as plans, filled.engine.begin() as connection:
        assert claims.any_left(connection, "public")

    assert_by_index(plans, jobs=10)


def test_that_no_job_is_left_is_found_out_without_the_finished_ones(filled: Site, undone: Connection) -> None:
    # Few of the host's jobs are ours, and when the statistics were made, many of the others waited.
    job = "substr(id, 5)::integer"
    undone.execute(text(f"""UPDATE "BackgroundJob" SET "dedupeKey" = 'live:' || id WHERE {job} % 10 > 0"""))
    undone.execute(text(f"""UPDATE "BackgroundJob" SET status = 'PENDING' WHERE {job} % 2 = 0"""))
    undone.execute(text('ANALYZE "BackgroundJob"'))
    undone.execute(text("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED'"""))
    with explained(filled.engine) as plans:
        claims.any_left(undone, "public")

    assert_by_index(plans, jobs=0)
