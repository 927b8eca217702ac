"""Every statement of a page reads about one page's rows, on a large table and with any statistics."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from integration.plans import Plan, explained
from integration.site import STATEMENT_MS, Host, Site, own_options
from long_forms import long
from psycopg import sql
from sqlalchemy import Connection

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.backfills.lead_scoring.queue import LiveQueueAge
from backfill_tasks.backfills.lead_scoring.state import MOST_AHEAD
from backfill_tasks.backfills.message_rollups import MessageRollups
from backfill_tasks.engine import ledger
from backfill_tasks.engine.admission.pressure import Pressure
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.dry_run import DryRun
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.page.statement import PAGE_ROWS
from backfill_tasks.engine.runs import cut, new_id
from backfill_tasks.engine.verification import Verifier
from backfill_tasks.engine.why import why
from backfill_tasks.options import Parameters
from backfill_tasks.scoring.jobs import KEY_PREFIX
from sandbox.host.sample import TABLES, create_schema, fill
from sandbox.servers import Servers

LEADS = 24_000
LIMIT = 100

#: The largest number of inbound messages of a lead in the sample.
MESSAGES = 6

JOBS = """
INSERT INTO "BackgroundJob" (id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "updatedAt")
SELECT
  kind || lead.id, 'LEAD_SCORING_POST_PROCESS', 'SUCCEEDED', kind || lead.id,
  lead."clientId", lead.id, message.id, now()
FROM "Lead" AS lead
JOIN LATERAL (SELECT id FROM "Message" WHERE "leadId" = lead.id LIMIT 1) AS message ON true
CROSS JOIN unnest(ARRAY['lead_scoring_backfill:', 'lead_scoring:']) AS kind
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class Templates:
    """The names of large host databases, by the state of their statistics."""

    fresh: str
    missing: str
    outgrown: str


@pytest.fixture(scope="session")
def templates(make_database: Callable[..., str]) -> Templates:
    """Return large host databases: with fresh statistics, with none, and with those of a then empty queue."""
    fresh, missing = make_database(), make_database()
    with psycopg.connect(fresh, autocommit=True) as connection:
        create_schema(connection)
        _leave_statistics_alone(connection)
        fill(connection, LEADS)
    with psycopg.connect(missing, autocommit=True) as connection:
        create_schema(connection)
        _leave_statistics_alone(connection)
        _copy(fresh, connection)
    outgrown = make_database(template=_name(fresh))
    with psycopg.connect(outgrown, autocommit=True) as connection:
        connection.execute('DELETE FROM "BackgroundJob"')
        connection.execute("VACUUM (ANALYZE)")
        connection.execute(JOBS)
    return Templates(*map(_name, (fresh, missing, outgrown)))


@pytest.fixture(scope="session", params=["fresh", "missing", *long("outgrown")])
def large_site(
    request: pytest.FixtureRequest, make_database: Callable[..., str], templates: Templates, server: Servers
) -> Iterator[Site]:
    """Yield a host with many leads; tests add runs to it, and pages of a few hundred leads."""
    large = Site(make_database(template=getattr(templates, request.param)), server.redis_url)
    large.migrate()
    yield large
    large.close()


def _name(url: str) -> str:
    return url.rsplit("/", 1)[1]


def _leave_statistics_alone(connection: "psycopg.Connection[Any]") -> None:
    for table in TABLES:
        statement = "ALTER TABLE {} SET (autovacuum_enabled = false)"
        connection.execute(sql.SQL(statement).format(sql.Identifier(table)))


def _copy(source: str, target: "psycopg.Connection[Any]") -> None:
    """Copy all rows into tables that were never analyzed."""
    with psycopg.connect(source) as origin:
        for table in TABLES:
            name = sql.Identifier(table)
            with (
                origin.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(name)) as rows,
                target.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(name)) as copy,
            ):
                for row in rows:
                    copy.write(row)


def smallest_client(host: Host) -> str:
    """Return the workspace with the fewest leads: its pages are sparse."""
    statement = 'SELECT "clientId" FROM "Lead" GROUP BY 1 ORDER BY count(*), 1 LIMIT 1'
    return str(host.values(statement)[0])


def nth_lead(host: Host, share: float) -> str:
    statement = 'SELECT id FROM "Lead" ORDER BY id OFFSET %s LIMIT 1'
    return str(host.values(statement, int(LEADS * share))[0])


def page_plan(site: Site, *, after: str | None, limit: int, **options: Any) -> Plan:
    """Return the plan of a page as a worker runs it."""
    run = start(site, after=after, limit=limit, **options)
    with explained(site.engine) as plans:
        site.deliver()
    site.waiting.clear()
    site.runs.cancel(run.id)
    (plan,) = plans
    return plan


def survey_plan(site: Site, *, after: str | None, limit: int, backfill: str = LeadScoring.name, **options: Any) -> Plan:
    """Return the plan of a page of a dry run."""
    known, every = site.parts.backfills[backfill], own_options(**options)
    own = {each.name: every[each.name] for each in known.options}
    parameters = Parameters(backfill, limit, 1, cursor=after, options=own)
    lanes = cut(site.engine, known, parameters, smallest=1)
    survey = DryRun(site.engine, known, parameters, new_id(), lanes, STATEMENT_MS, single_batch=True)
    with explained(site.engine) as plans:
        with survey.walking():
            pass
        assert survey.read().pages == 1
    (plan,) = plans
    return plan


def verification_plans(site: Site) -> tuple[Plan, Plan]:
    """Return the plans of finding missing leads and of the recount, after one page of the maximum number of rows."""
    run = start(site, after=nth_lead(site.host, 0.5), limit=PAGE_ROWS, single_batch=True)
    site.deliver()
    with explained(site.engine) as plans:
        site.verify(run.id)
    look, recount, _outcome = plans
    return look, recount


def start(site: Site, *, after: str | None, limit: int, single_batch: bool = False, **options: Any) -> Run:
    return site.start(limit=limit, after=after, single_batch=single_batch, **options)


def take_rollups_away(host: Host, *, after: str | None) -> None:
    """Make some hundred consecutive leads lag behind their messages."""
    host.do(
        """UPDATE "Lead" SET "lastMessageAt" = NULL
        WHERE id IN (SELECT id FROM "Lead" WHERE id > %s ORDER BY id LIMIT %s)""",
        after or "",
        5 * LIMIT,
    )


class TestDensePage:
    @pytest.mark.parametrize("plan_of", [page_plan, survey_plan])
    @pytest.mark.parametrize("share", [0, 0.1, 0.9])
    @pytest.mark.parametrize("rescore_all", [False, True])
    def test_reads_a_few_rows_per_lead_anywhere_in_the_table(
        self, large_site: Site, plan_of: Callable[..., Plan], share: float, *, rescore_all: bool
    ) -> None:
        after = nth_lead(large_site.host, share) if share else None

        plan = plan_of(large_site, after=after, limit=LIMIT, rescore_all=rescore_all)

        # One lead in three is eligible: a page reads 300 rows, and a dry run counts them once more.
        assert plan.whole == []
        assert plan.rows("Lead") <= 10 * LIMIT
        assert plan.rows("Message") <= 10 * LIMIT * MESSAGES
        assert plan.rows("BackgroundJob") <= 5 * LIMIT

    @pytest.mark.parametrize("plan_of", [page_plan, survey_plan])
    def test_reads_jobs_of_its_own_leads_only(self, large_site: Site, plan_of: Callable[..., Plan]) -> None:
        plan = plan_of(large_site, after=None, limit=PAGE_ROWS)

        assert plan.rows("BackgroundJob") <= 5 * PAGE_ROWS


class TestWhy:
    def test_one_lead_is_explained_from_a_few_rows(self, large_site: Site) -> None:
        with large_site.engine.begin() as connection, explained(large_site.engine) as plans:
            lead = nth_lead(large_site.host, 0.5)
            why(connection, large_site.parts.backfills[LeadScoring.name], lead, statement_ms=STATEMENT_MS)

        assert sum(plan.rows("Lead") for plan in plans) <= 10
        assert sum(plan.rows("Message") for plan in plans) <= 10 * MESSAGES
        assert sum(plan.rows("BackgroundJob") for plan in plans) <= MOST_AHEAD + 10


class TestSparsePage:
    @pytest.mark.parametrize("plan_of", [page_plan, survey_plan])
    @pytest.mark.parametrize("share", [0, 0.5])
    def test_reads_at_most_the_maximum_rows_of_a_page(
        self, large_site: Site, plan_of: Callable[..., Plan], share: float
    ) -> None:
        after = nth_lead(large_site.host, share) if share else None
        sparse = smallest_client(large_site.host)

        plan = plan_of(large_site, after=after, limit=LIMIT, client_ids=[sparse])

        # A page reads its rows once, and once more to find its end; a dry run counts them a third time.
        assert plan.whole == []
        assert plan.rows("Lead") <= 3 * PAGE_ROWS + LIMIT
        assert plan.rows("Message") <= PAGE_ROWS * MESSAGES
        assert plan.rows("BackgroundJob") <= 5 * LIMIT


class TestVerification:
    def test_missing_leads_are_found_in_bounded_ranges(self, large_site: Site) -> None:
        look, _ = verification_plans(large_site)

        assert look.whole == []
        assert look.rows("Lead") <= PAGE_ROWS
        assert look.rows("Message") <= PAGE_ROWS * MESSAGES
        assert look.rows("BackgroundJob") <= PAGE_ROWS

    def test_recount_reads_one_page(self, large_site: Site) -> None:
        _, recount = verification_plans(large_site)

        assert recount.whole == []
        assert recount.rows("Lead") <= 2 * PAGE_ROWS
        assert recount.rows("BackgroundJob") <= PAGE_ROWS


#: Due jobs with keys of this prefix, not inserted in due order: only an index returns them in order.
DUE_JOBS = """
INSERT INTO "BackgroundJob" (
  id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt"
)
SELECT
  gen_random_uuid()::text, 'LEAD_SCORING_POST_PROCESS', 'PENDING', %(key)s || gen_random_uuid(), message.client,
  message.lead, message.id, now() AT TIME ZONE 'UTC' - random() * interval '1 hour', now()
FROM generate_series(1, %(number)s)
CROSS JOIN (
  SELECT message.id, lead.id AS lead, lead."clientId" AS client
  FROM "Message" AS message JOIN "Lead" AS lead ON lead.id = message."leadId" LIMIT 1
) AS message
"""


@contextmanager
def page_of(site: Site) -> Iterator[Connection]:
    """Yield a page's transaction up to its fence, then roll it back."""
    run = start(site, after=None, limit=LIMIT)
    message = site.waiting.pop()
    with site.engine.connect() as connection, connection.begin() as transaction:
        ledger.fence(connection, message, lock_ms=500, statement_ms=STATEMENT_MS)
        yield connection
        transaction.rollback()
    site.runs.cancel(run.id)


def waiting_jobs(connection: Connection) -> int:
    """Return how many jobs of all kinds are unfinished."""
    query = """SELECT count(*) FROM "BackgroundJob" WHERE status IN ('PENDING', 'RUNNING')"""
    return int(connection.exec_driver_sql(query).scalar_one())


class TestAdmission:
    def test_pending_count_reads_unfinished_jobs_by_index(self, large_site: Site) -> None:
        with page_of(large_site) as connection:
            connection.exec_driver_sql(DUE_JOBS, {"key": "lead_scoring:", "number": 500})
            with explained(large_site.engine) as plans:
                LeadScoring().pending(connection, 100_000)
            (plan, *_) = plans
            most = waiting_jobs(connection)

        assert plan.whole == []
        assert plan.rows("BackgroundJob") <= most

    def test_pending_count_stops_at_the_bound(self, large_site: Site) -> None:
        with page_of(large_site) as connection:
            connection.exec_driver_sql(DUE_JOBS, {"key": KEY_PREFIX, "number": 3_000})
            before = waiting_jobs(connection) - 3_000
            with explained(large_site.engine) as plans:
                assert LeadScoring().pending(connection, 50) == 50
            (plan, *_) = plans

        assert plan.whole == []
        assert plan.rows("BackgroundJob") <= before + 50

    def test_measures_the_drain_by_index_and_a_bounded_number_of_jobs(self, large_site: Site) -> None:
        with page_of(large_site) as connection:
            connection.exec_driver_sql(DUE_JOBS, {"key": KEY_PREFIX, "number": 12_000})
            with explained(large_site.engine) as plans:
                now = time.time()
                LeadScoring().queue.measure(connection, since=now - 60, until=now)
            (plan, *_) = plans

        assert plan.whole == []
        assert plan.rows("BackgroundJob") <= 3_100

    def test_measures_the_drain_beside_our_own_scorers_by_index_and_a_bounded_number_of_jobs(
        self, large_site: Site
    ) -> None:
        with page_of(large_site) as connection:
            connection.exec_driver_sql(DUE_JOBS, {"key": KEY_PREFIX, "number": 12_000})
            connection.exec_driver_sql(
                "INSERT INTO backfill.claim (started_at)"
                " SELECT now() AT TIME ZONE 'UTC' - number * interval '1 s' FROM generate_series(1, 5000) AS number"
            )
            with explained(large_site.engine) as plans:
                now = time.time()
                LeadScoring().queue.measure(connection, since=now - 60, until=now)
            (plan, *_) = plans

        assert plan.whole == []
        assert plan.rows("BackgroundJob") <= 6_100

    def test_sets_jobs_back_by_index_and_looks_at_a_bounded_number(self, large_site: Site) -> None:
        with page_of(large_site) as connection:
            connection.exec_driver_sql(DUE_JOBS, {"key": KEY_PREFIX, "number": 12_000})
            with explained(large_site.engine) as plans:
                now = time.time()
                LeadScoring().queue.set_back(connection, jobs=20, until=now, due=now + 60)
            (plan, *_) = plans

        assert plan.whole == []
        assert plan.rows("BackgroundJob") <= 1_100

    def test_live_job_is_found_by_index_among_a_bounded_number(self, large_site: Site) -> None:
        with page_of(large_site) as connection:
            connection.exec_driver_sql(DUE_JOBS, {"key": KEY_PREFIX, "number": 12_000})
            with explained(large_site.engine) as plans:
                Pressure((), 0).readings(connection, [LiveQueueAge("public", KEY_PREFIX, 180)])
            (plan, *_) = plans

        assert plan.whole == []
        assert plan.rows("BackgroundJob") <= 1_000


class TestDrain:
    @pytest.mark.parametrize("key", [KEY_PREFIX, "lead_scoring:"])
    def test_due_jobs_are_found_by_index_and_done_jobs_are_not_read(self, large_site: Site, key: str) -> None:
        with page_of(large_site) as connection:
            connection.exec_driver_sql(DUE_JOBS, {"key": key, "number": 12_000})
            with explained(large_site.engine) as plans:
                backlog = LeadScoring().backlog(connection)
            (plan, *_) = plans
            most = waiting_jobs(connection)

        assert (backlog.next_due_seconds or 0) <= 0
        assert plan.whole == []
        # Waiting jobs are read for the first one of ours and for a live one.
        assert plan.rows("BackgroundJob") <= 2 * most


class TestOutcome:
    def test_jobs_are_found_by_index(self, large_site: Site) -> None:
        run = start(large_site, after=nth_lead(large_site.host, 0.5), limit=LIMIT, single_batch=True)
        large_site.deliver()

        with explained(large_site.engine) as plans, large_site.engine.begin() as connection:
            begin_read_only(connection, statement_ms=STATEMENT_MS)
            LeadScoring().outcome(connection, run)

        (plan,) = plans
        assert plan.whole == []
        assert plan.rows("BackgroundJob") <= LIMIT
        assert plan.rows("Lead") <= LIMIT


class TestMessageRollups:
    """The sample's roll-ups are up to date, so a page finds nothing until they are removed."""

    @pytest.mark.parametrize("plan_of", [page_plan, survey_plan])
    @pytest.mark.parametrize("share", [0, 0.5])
    def test_page_of_lagging_leads_reads_a_few_rows_per_lead(
        self, large_site: Site, plan_of: Callable[..., Plan], share: float
    ) -> None:
        after = nth_lead(large_site.host, share) if share else None
        take_rollups_away(large_site.host, after=after)

        plan = plan_of(large_site, after=after, limit=LIMIT, backfill=MessageRollups.name)

        # Leads without a message are read and skipped.
        assert plan.whole == []
        assert plan.rows("Lead") <= 10 * LIMIT
        assert plan.rows("Message") <= 10 * LIMIT * MESSAGES

    @pytest.mark.parametrize("plan_of", [page_plan, survey_plan])
    @pytest.mark.parametrize("share", [0.1, 0.7])
    def test_page_without_lagging_leads_reads_a_bounded_number_of_rows(
        self, large_site: Site, plan_of: Callable[..., Plan], share: float
    ) -> None:
        after = nth_lead(large_site.host, share)

        plan = plan_of(large_site, after=after, limit=LIMIT, backfill=MessageRollups.name)

        assert plan.whole == []
        assert plan.rows("Lead") <= 3 * PAGE_ROWS + LIMIT
        assert plan.rows("Message") <= PAGE_ROWS * (MESSAGES + 1)

    def test_verification_finds_lagging_leads_in_bounded_ranges(self, large_site: Site) -> None:
        after = nth_lead(large_site.host, 0.5)
        run = large_site.start(backfill=MessageRollups.name, limit=PAGE_ROWS, after=after, single_batch=True)
        large_site.deliver()

        with explained(large_site.engine) as plans:
            large_site.verify(run.id)

        (plan,) = plans
        assert plan.whole == []
        assert plan.rows("Lead") <= 3 * PAGE_ROWS
        # Once as of now, and once as of the run's start.
        assert plan.rows("Message") <= 2 * PAGE_ROWS * MESSAGES


class TestFullVerification:
    @pytest.mark.parametrize("backfill", [LeadScoring.name, MessageRollups.name])
    def test_tables_are_read_sequentially_with_any_statistics(self, large_site: Site, backfill: str) -> None:
        run = large_site.start(backfill=backfill, limit=PAGE_ROWS, lanes=2)
        large_site.deliver_all()
        sizes = {table: large_site.host.values(f'SELECT count(*) FROM "{table}"')[0] for table in TABLES}

        with explained(large_site.engine) as plans:
            Verifier(large_site.engine, large_site.parts.backfills[backfill], STATEMENT_MS, full=True).verify(run)

        # The outcome of the jobs, the last statement, is for information: it takes no part in the verdict.
        verdict = plans[:-1] if large_site.parts.backfills[backfill].jobs else plans
        assert verdict
        for plan in verdict:
            assert {scan.kind for scan in plan.scans} == {"Seq Scan"}
            # The recount reads leads twice: for the jobs and for the disqualified leads.
            assert all(plan.rows(table) <= 2 * size for table, size in sizes.items())


class TestPlanGuard:
    @pytest.mark.parametrize(
        "statement",
        [
            'SELECT count("updatedAt") FROM "Lead"',
            """SELECT FROM "Lead" WHERE "jobTitle" = 'none'""",
            'SELECT id FROM "Lead" ORDER BY id',
        ],
    )
    def test_full_scan_of_a_table_or_an_index_is_noticed(self, large_site: Site, statement: str) -> None:
        with explained(large_site.engine) as plans, large_site.engine.begin() as connection:
            connection.exec_driver_sql(statement)

        assert plans[0].whole
        assert plans[0].rows("Lead") == LEADS

    def test_discarded_rows_are_noticed(self, large_site: Site) -> None:
        statement = """SELECT FROM "Lead" WHERE id > '' AND "jobTitle" = 'none'"""

        with explained(large_site.engine) as plans, large_site.engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
            connection.exec_driver_sql(statement)

        assert plans[0].rows("Lead") == LEADS
