"""`backfill doctor` checks whether a run would work, and names what to fix."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from acceptance.commands import backfill_against, empty
from acceptance.host import Host, make_host
from harness import Backfill, Worker
from pgbouncer import pgbouncer
from psycopg import sql

from backfill_tasks import __version__
from sandbox.servers import Redis

WIDTH = 80
RUN = ("run", "--apply", "--detach")

#: Many finished jobs that belong to no run.
JOBS = """
INSERT INTO "BackgroundJob" (id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "updatedAt")
SELECT 'job-' || number, 'LEAD_SCORING_POST_PROCESS', 'SUCCEEDED', 'key-' || number, client, lead, message, now()
FROM generate_series(1, 12000) AS number
CROSS JOIN (
  SELECT lead."clientId" AS client, lead.id AS lead, message.id AS message
  FROM "Lead" AS lead JOIN "Message" AS message ON message."leadId" = lead.id LIMIT 1
) AS one
"""

#: No lane has moved for an hour.
AN_HOUR_AGO = "UPDATE backfill.lane SET moved_at = now() - interval '1 hour', held_until = now() - interval '1 hour'"

#: Sets the process's clock back by a minute; Python executes it at startup.
SLOW_CLOCK = "import time; clock = time.time; time.time = lambda: clock() - 60"

#: A worker of another version, and one of a version that doesn't report itself.
OLD_WORKER = "from backfill_tasks.worker import app, fleet; fleet.__version__ = '0.0.9'; app = app.app"
SILENT_WORKER = """
from celery.worker.control import Panel
from backfill_tasks.worker import app, fleet
del Panel.data["backfill_version"]
app = app.app
"""


def said(command: Backfill, *, status: int) -> str:
    """Run the doctor, assert its exit status, and return its output with one line per finding."""
    done = command("doctor")
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.replace("\n       ", " ")


@pytest.fixture(scope="module")
def large_template(make_database: Callable[..., str]) -> str:
    """The name of a host database whose large tables have over 10,000 rows."""
    large = make_host(make_database(), 6_000)
    large.execute(JOBS)
    with psycopg.connect(large.url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return large.url.rsplit("/", 1)[1]


@pytest.fixture
def large(
    make_database: Callable[..., str], large_template: str, broker: Redis, worker: Worker, tmp_path: Path
) -> Backfill:
    """The command on its own large host database."""
    command = backfill_against(tmp_path, make_database(template=large_template), broker.url)
    command("init")
    return command


def execute(command: Backfill, statement: str) -> None:
    with psycopg.connect(command.database_url, autocommit=True) as connection:
        connection.execute(statement.encode())


def drop_indexes(command: Backfill, table: str, like: str) -> None:
    """Drop the indexes of a table whose definition contains a text."""
    with psycopg.connect(command.database_url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename = %s AND indexdef LIKE %s",
            [table, f"%{like}%"],
        ).fetchall()
        assert found
        for (name,) in found:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))


@pytest.mark.usefixtures("worker")
class TestHealthyInstallation:
    def test_reports_no_problems(self, backfill: Backfill) -> None:
        backfill("init")

        shown = said(backfill, status=0)

        assert "WRONG" not in shown
        assert "fine   no pooler is in front" in shown
        assert "fine   lead-scoring: pages read by index" in shown
        assert "fine   1 worker is online" in shown
        assert f"fine   every worker has this command's version, {__version__}" in shown
        assert "fine   no run is stalled or forgotten" in shown

    def test_a_missing_ledger_is_not_an_error(self, backfill: Backfill, inhabited: Host) -> None:
        shown = said(backfill, status=0)

        assert "look   the ledger does not exist yet" in shown
        assert "`backfill init` creates it, and so does `backfill run --apply`." in shown
        assert not inhabited.has_ledger()

    def test_changes_nothing(self, backfill: Backfill, inhabited: Host) -> None:
        backfill.json("run", "--apply")
        before = inhabited.contents()

        said(backfill, status=0)

        assert inhabited.contents() == before

    def test_fits_in_80_columns(self, backfill: Backfill) -> None:
        assert [line for line in backfill("doctor").stdout.splitlines() if len(line) > WIDTH] == []


class TestServers:
    def test_an_unreachable_database_is_wrong_and_skips_the_other_checks(self, alone: Backfill) -> None:
        shown = said(alone.set(DATABASE_URL="postgresql://app:Xq7k@127.0.0.1:1/host"), status=1)

        assert "WRONG  PostgreSQL can't be reached" in shown
        assert "Xq7k" not in shown
        assert "Redis" not in shown

    def test_an_unreachable_redis_is_wrong(self, alone: Backfill) -> None:
        shown = said(alone.set(REDIS_URL="redis://127.0.0.1:1/0"), status=1)

        assert "WRONG  Redis can't be reached" in shown
        assert "worker" not in shown

    def test_a_newer_ledger_is_wrong(self, alone: Backfill, inhabited: Host) -> None:
        alone("init")
        inhabited.execute("INSERT INTO backfill.migration (version) VALUES (99)")

        assert "WRONG  the ledger is at version 99" in said(alone, status=1)

    def test_a_redis_with_an_eviction_policy_needs_a_look(self, alone: Backfill, deserted_broker: Redis) -> None:
        with redis.Redis.from_url(deserted_broker.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            shown = said(alone, status=1)
            client.config_set("maxmemory-policy", "noeviction")

        assert "look   Redis may evict keys: its maxmemory-policy is allkeys-lru" in shown


@pytest.mark.usefixtures("worker")
class TestPooler:
    def test_a_transaction_pooler_without_pgbouncer_true_needs_a_look(self, backfill: Backfill, tmp_path: Path) -> None:
        with pgbouncer(backfill.database_url, tmp_path, mode="transaction") as url:
            shown = said(backfill.set(DATABASE_URL=url), status=0)

        assert "look   a transaction pooler is in front, and DATABASE_URL lacks pgbouncer=true" in shown
        assert "Add pgbouncer=true to the URL" in shown

    def test_a_transaction_pooler_with_pgbouncer_true_is_fine_and_a_run_works(
        self, backfill: Backfill, tmp_path: Path
    ) -> None:
        with pgbouncer(backfill.database_url, tmp_path, mode="transaction") as url:
            through = backfill.set(DATABASE_URL=f"{url}?pgbouncer=true")

            assert "fine   a transaction pooler is in front" in said(through, status=0)
            assert through.json("run", "--apply")["state"] == "complete"

    def test_pgbouncer_true_without_a_pooler_needs_a_look(self, backfill: Backfill) -> None:
        shown = said(backfill.set(DATABASE_URL=f"{backfill.database_url}?pgbouncer=true"), status=0)

        assert "look   no pooler is in front, but DATABASE_URL has pgbouncer=true" in shown


FULL = """
UPDATE "BackgroundJob" SET status = 'SUCCEEDED';
UPDATE "BackgroundJob" SET status = 'PENDING', "runAt" = now() AT TIME ZONE 'UTC' - interval '{age}'
WHERE id IN (SELECT id FROM "BackgroundJob" WHERE starts_with("dedupeKey", 'lead_scoring_backfill:') LIMIT 12)
"""


@pytest.mark.usefixtures("worker")
class TestRoom:
    def test_a_full_queue_without_a_drain_is_wrong(self, backfill: Backfill, inhabited: Host) -> None:
        inhabited.execute(FULL.format(age="1 hour"))

        shown = said(backfill.set(BACKFILL_MAX_PENDING="12"), status=1)

        assert "WRONG  no page would start: no room in the host's queue: 12 jobs wait" in shown
        assert "The oldest has been due for 1 h 0 min: is the host's runner working?" in shown
        assert "backfill run --max-pending 24" in shown

    def test_a_full_but_draining_queue_needs_a_look_and_names_the_tune_command(
        self, backfill: Backfill, inhabited: Host
    ) -> None:
        run = backfill.json("run", "--apply", "--single-batch", "--limit", "20", status=4)["run_id"]
        assert backfill("tune", run, "--max-pending", "10").returncode == 0
        inhabited.execute("UPDATE backfill.run SET state = 'running'")
        inhabited.execute(FULL.format(age="5 seconds"))

        shown = said(backfill, status=0)

        assert "look   no room in the host's queue: 12 jobs wait, ours and due live ones, and the limit is 10" in shown
        assert f"backfill tune {run} --max-pending 22" in shown


@pytest.fixture
def role(inhabited: Host) -> Iterator[str]:
    """A role without privileges except to log in."""
    name = f"role_{secrets.token_hex(4)}"
    inhabited.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'Xq7kZw9p'")
    yield name
    inhabited.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def as_role(command: Backfill, role: str) -> Backfill:
    parts = urlsplit(command.database_url)
    return command.set(DATABASE_URL=parts._replace(netloc=f"{role}:Xq7kZw9p@{parts.hostname}:{parts.port}").geturl())


@pytest.mark.usefixtures("worker")
class TestRights:
    def test_all_missing_grants_are_named_at_once(self, backfill: Backfill, role: str) -> None:
        backfill("init")

        shown = said(as_role(backfill, role), status=1)

        assert f'Have a DBA run GRANT SELECT ON "public"."Client" TO {role}' in shown
        assert f'Have a DBA run GRANT SELECT ON "public"."Message" TO {role}' in shown
        assert f'Have a DBA run GRANT SELECT, UPDATE ON "public"."Lead" TO {role}' in shown
        assert f'Have a DBA run GRANT SELECT, INSERT, UPDATE ON "public"."BackgroundJob" TO {role}' in shown
        assert f"GRANT USAGE ON SCHEMA backfill TO {role}" in shown
        assert f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA backfill TO {role}" in shown
        assert shown.count("this role may not read the ledger") == 1
        assert "read by index" not in shown

    def test_a_run_works_with_the_named_grants(self, backfill: Backfill, role: str, inhabited: Host) -> None:
        backfill("init")
        as_another = as_role(backfill, role)
        for line in said(as_another, status=1).splitlines():
            if "GRANT" in line:
                inhabited.execute(line[line.index("GRANT") :])

        shown = said(as_another, status=0)

        assert "can't be measured" not in shown
        assert as_another.json("run", "--apply")["state"] == "complete"

    def test_a_role_blind_to_other_sessions_gets_the_grant_to_run(self, backfill: Backfill, role: str) -> None:
        backfill("init")
        execute(backfill, f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
        execute(backfill, f"GRANT USAGE ON SCHEMA backfill TO {role}")
        execute(backfill, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA backfill TO {role}")

        shown = said(as_role(backfill.set(BACKFILL_BUSY_LIMIT="50"), role), status=0)

        assert "look   can't be measured: replication lag" in shown
        assert "look   can't be measured: others at work One page at a time, of at most 50 items" in shown
        assert f"GRANT pg_read_all_stats TO {role}" in shown

    def test_a_role_without_create_privilege_is_told_how_to_create_the_ledger(
        self, backfill: Backfill, role: str
    ) -> None:
        shown = said(as_role(backfill, role), status=1)

        assert "WRONG  the ledger does not exist yet, and this role may not create it" in shown
        assert "run the output of `backfill init --sql`, or GRANT CREATE ON DATABASE" in shown


@pytest.mark.usefixtures("worker")
class TestPressure:
    def test_a_live_job_waiting_too_long_is_wrong(self, backfill: Backfill, inhabited: Host) -> None:
        backfill("init")
        inhabited.execute(JOBS.replace("12000", "1"))
        inhabited.execute(
            """UPDATE "BackgroundJob" SET status = 'PENDING', "runAt" = now() AT TIME ZONE 'UTC' - interval '1 hour' """
            """WHERE id = 'job-1'"""
        )

        shown = said(backfill.set(BACKFILL_MAX_LIVE_WAIT="180"), status=1)

        assert "WRONG  no page would start: live queue answers wait A live job has waited for" in shown
        assert "backfill tune RUN --max-live-wait SECONDS" in shown
        assert "WRONG" not in said(backfill.set(BACKFILL_MAX_LIVE_WAIT="0"), status=0)


class TestPlans:
    def test_a_large_hosts_plans_are_fine(self, large: Backfill) -> None:
        assert "WRONG" not in said(large, status=0)

    def test_a_full_scan_per_lead_is_wrong_and_names_the_missing_index(self, large: Backfill) -> None:
        drop_indexes(large, "Message", '("leadId"')

        shown = said(large, status=1)

        for name in ("lead-scoring", "message-rollups"):
            assert f'WRONG  {name}: each page reads the whole of "public"."Message", about ' in shown
        assert 'CREATE INDEX CONCURRENTLY ON "public"."Message" ("leadId")' in shown

    def test_the_named_index_fixes_the_plan(self, large: Backfill) -> None:
        drop_indexes(large, "Message", '("leadId"')
        execute(large, 'CREATE INDEX CONCURRENTLY ON "public"."Message" ("leadId")')

        assert "fine   lead-scoring: pages read by index" in said(large, status=0)

    def test_a_full_scan_per_page_needs_a_look(self, large: Backfill) -> None:
        drop_indexes(large, "BackgroundJob", "(status")

        shown = said(large, status=0)

        assert 'look   lead-scoring: each page reads the whole of "public"."BackgroundJob", about 1' in shown
        assert 'CREATE INDEX CONCURRENTLY ON "public"."BackgroundJob" (status' in shown

    def test_a_missing_unique_index_on_jobs_is_wrong(self, large: Backfill) -> None:
        drop_indexes(large, "BackgroundJob", "dedupeKey")

        shown = said(large, status=1)

        assert "WRONG  lead-scoring: the host lacks a unique index that a page needs" in shown
        assert 'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."BackgroundJob" ("dedupeKey")' in shown

    @pytest.mark.usefixtures("worker")
    def test_a_full_scan_of_a_small_table_is_fine(self, backfill: Backfill, bare_host: str) -> None:
        small = backfill.set(DATABASE_URL=bare_host)
        drop_indexes(small, "Message", '("leadId"')

        assert "fine   lead-scoring: pages read by index" in said(small, status=0)


@pytest.mark.usefixtures("worker")
class TestClocks:
    def test_a_skewed_clock_needs_a_look_and_shows_the_skew(self, backfill: Backfill) -> None:
        (backfill.directory / "sitecustomize.py").write_text(SLOW_CLOCK)

        shown = said(backfill.set(PYTHONPATH=str(backfill.directory)), status=0)

        assert "look   the clock of PostgreSQL is 60.0 s ahead of this machine's" in shown
        assert "look   the clock of Redis is 60.0 s ahead of this machine's" in shown

    def test_synchronized_clocks_are_fine(self, backfill: Backfill) -> None:
        shown = said(backfill, status=0)

        assert "fine   the clocks of PostgreSQL and this machine agree within 0." in shown
        assert "fine   the clocks of Redis and this machine agree within 0." in shown


class TestWorkers:
    def test_a_fleet_without_workers_is_wrong(self, alone: Backfill) -> None:
        shown = said(alone, status=1)

        assert "WRONG  no worker is online Start one: backfill worker" in shown

    @pytest.mark.parametrize(
        ("module", "says"), [(OLD_WORKER, "has version 0.0.9"), (SILENT_WORKER, "doesn't report its version")]
    )
    def test_a_worker_of_another_version_needs_a_look(self, alone: Backfill, module: str, says: str) -> None:
        (alone.directory / "another_worker.py").write_text(module)
        worker = Worker.start(alone, app="another_worker", concurrency=1)
        try:
            shown = said(alone, status=0)
        finally:
            worker.stop()

        assert f"{says}, this command has {__version__}" in shown
        assert "look   worker-1-" in shown


class TestLeftovers:
    @pytest.fixture
    def run(self, request: pytest.FixtureRequest, backfill: Backfill) -> str:
        """The id of a run that is paused after its first page."""
        request.getfixturevalue("worker")
        canary: str = backfill.json("run", "--apply", "--single-batch", "--limit", "50", status=4)["run_id"]
        return canary

    @pytest.mark.usefixtures("run")
    def test_a_recently_paused_run_is_fine(self, backfill: Backfill) -> None:
        assert "fine   no run is stalled or forgotten" in said(backfill, status=0)

    def test_a_long_paused_run_is_named_with_its_next_commands(
        self, backfill: Backfill, run: str, inhabited: Host
    ) -> None:
        inhabited.execute("UPDATE backfill.event SET at = at - interval '2 days'")

        shown = said(backfill, status=0)

        assert f"look   run {run} has been paused for 2 d" in shown
        assert f"`backfill resume {run}` continues it, `backfill cancel {run}` ends it." in shown

    def test_a_run_with_lost_messages_is_named_with_its_lanes(
        self, alone: Backfill, inhabited: Host, deserted_broker: Redis
    ) -> None:
        run = alone.json(*RUN)["run_id"]
        empty(deserted_broker)
        inhabited.execute(AN_HOUR_AGO)
        worker = Worker.start(alone, concurrency=1)
        try:
            shown = said(alone, status=0)
        finally:
            worker.stop()

        assert f"look   run {run} is stalled: the message of 2 lanes is lost" in shown
        assert alone.json("status", run)["pages"] == 0

    def test_a_run_waiting_for_a_worker_is_not_called_stalled(self, alone: Backfill, inhabited: Host) -> None:
        alone.json(*RUN)
        inhabited.execute(AN_HOUR_AGO)

        assert "fine   no run is stalled or forgotten" in said(alone, status=1)


class TestPrompts:
    TABLES = """
    CREATE TABLE public."PromptOverride" (
      "clientId" text, "promptKey" text, role text, index integer, "baseContentHash" text, content text
    );
    INSERT INTO public."PromptOverride" VALUES
      ('client-7', 'lead_scoring.score.v1', 'system', 0, 'stale', 'Score kindly.')
    """

    def test_a_workspace_whose_prompt_can_t_be_used_here_is_named(self, backfill: Backfill, inhabited: Host) -> None:
        inhabited.execute(self.TABLES)

        shown = backfill("doctor").stdout.replace("\n       ", " ")

        assert "look   scoring here would not apply 1 of the host's prompt overrides: workspace client-7" in shown
        assert "BACKFILL_PROMPT_FILE" in shown
        assert "Score kindly" not in shown


@pytest.mark.usefixtures("inhabited")
class TestScoring:
    def test_a_session_without_a_worker_is_wrong(self, backfill: Backfill) -> None:
        backfill("work", "--detach")

        shown = said(backfill, status=1)

        assert "WRONG  scoring is running, and no worker takes its batches" in shown
        assert "fine   the scorer rules can be used here" in shown

    @pytest.mark.usefixtures("worker")
    def test_reserved_jobs_that_come_due_are_named(self, backfill: Backfill) -> None:
        backfill.json("run", "--apply", "--score-here", "--reserve-hours", "1")

        shown = said(backfill, status=0)

        assert "jobs are reserved for scoring here, and nothing scores here" in shown
        assert "1 workspace has no ideal customer profile" in shown

    def test_a_scorer_whose_model_has_no_price_is_wrong(self, backfill: Backfill) -> None:
        command = backfill.set(OPENAI_API_KEY="key", BACKFILL_OPENAI_MODEL="unheard-of")

        assert "WRONG  the model 'unheard-of' has no price" in said(command, status=1)

    def test_a_prompt_file_that_can_t_be_read_is_wrong(self, backfill: Backfill) -> None:
        command = backfill.set(OPENAI_API_KEY="key", BACKFILL_PROMPT_FILE="/nowhere")

        assert "/nowhere' can't be read" in said(command, status=1)


@pytest.mark.usefixtures("inhabited")
class TestDrain:
    def test_nothing_is_said_of_a_drain_that_nobody_wants(self, backfill: Backfill) -> None:
        assert "cron" not in backfill("doctor").stdout

    def test_a_drain_without_a_secret_and_a_host_that_is_away_are_named(self, backfill: Backfill) -> None:
        backfill("init")
        backfill("drain", "--url", "http://127.0.0.1:9/api/cron/background-jobs")

        shown = backfill("doctor").stdout.replace("\n       ", " ")

        assert "look   `backfill drain` lacks its secret here" in shown
        assert "look   the drain's host 127.0.0.1 accepts no connection from here: Connection refused" in shown

    def test_a_secret_file_that_can_t_be_read_is_named(self, backfill: Backfill) -> None:
        nowhere = str(backfill.directory / "nowhere")
        command = backfill.set(BACKFILL_CRON_SECRET_FILE=nowhere)

        assert "look   `backfill drain` lacks its secret here" in command("doctor").stdout.replace("\n       ", " ")

    def test_another_host_than_the_allowed_one_is_wrong(self, backfill: Backfill) -> None:
        backfill("init")
        backfill("drain", "--url", "http://127.0.0.1:9/api/cron/background-jobs")
        command = backfill.set(BACKFILL_CRON_HOST="app.example.com")

        shown = command("doctor").stdout.replace("\n       ", " ")

        assert "WRONG  the drain's host 127.0.0.1 is not the one of BACKFILL_CRON_HOST" in shown
