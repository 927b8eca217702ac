"""The host writes to the rows of a page in flight: it waits only briefly, and no page is lost or half done."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from integration.site import Session, Site, classes, own_options
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.engine import ledger
from backfill_tasks.engine.contract import PageContext, RowChanged
from backfill_tasks.engine.database import is_transient
from backfill_tasks.engine.model import Bounds, PageMessage, Quarantined, Window
from backfill_tasks.engine.page.results import Committed

STARTED_JOB = """UPDATE "BackgroundJob" SET status = 'RUNNING', "lockedBy" = 'runner-2' WHERE id = %s"""
LIVE_LEAD = """UPDATE "Lead" SET "lastInboundAt" = "lastInboundAt", "updatedAt" = "updatedAt" WHERE id = %s"""


def started(site: Site) -> PageMessage:
    """Start a run over the existing leads and return its only message."""
    site.start()
    return site.waiting.pop()


def do(site: Site, message: PageMessage) -> Committed:
    done = site.parts.chain.pages.do(message)
    assert isinstance(done, Committed)
    return done


def do_page(connection: Connection, site: Site) -> None:
    """Do a page of all leads in a transaction that stays open."""
    window = Window(Bounds(None, site.last_lead()), 500, 500)
    started_at = site.host.values("SELECT now()")[0]
    LeadScoring().page(connection, window, PageContext(own_options(), started_at, 0))


class TestWebhookDuringAPage:
    """Another session's statements; they fail at once instead of waiting for a lock."""

    @pytest.fixture
    def webhook(self, site: Site) -> Iterator[Session]:
        site.host.add_leads("a", "b", "c")
        site.host.add_leads("d", sentimentTag="Blacklist")
        site.host.add_job("b", "RUNNING")
        site.host.add_job("c", "PENDING")
        with site.host.session() as session:
            yield session

    def test_running_job_can_be_finished(self, site: Site, webhook: Session) -> None:
        with site.engine.begin() as connection:
            do_page(connection, site)
            webhook.execute("""SELECT FROM "BackgroundJob" WHERE id = 'job-b' FOR UPDATE NOWAIT""")
            webhook.execute("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED' WHERE id = 'job-b'""")
            webhook.commit()

        job = site.host.job("b")
        assert job is not None
        assert job["status"] == "SUCCEEDED"

    def test_lead_with_a_new_job_can_be_updated(self, site: Site, webhook: Session) -> None:
        with site.engine.begin() as connection:
            do_page(connection, site)
            webhook.execute("""SELECT FROM "Lead" WHERE id IN ('a', 'b', 'c') FOR NO KEY UPDATE NOWAIT""")
            webhook.execute("""UPDATE "Lead" SET "updatedAt" = now() WHERE id = 'a'""")

    def test_messages_and_leads_can_be_added(self, site: Site, webhook: Session) -> None:
        with site.engine.begin() as connection:
            do_page(connection, site)
            webhook.execute("SET LOCAL lock_timeout = 1")
            webhook.execute(
                """INSERT INTO "Message" (id, "leadId", direction, body) VALUES ('new', 'a', 'inbound', 'Hi')"""
            )
            webhook.execute("""INSERT INTO "Lead" (id, "clientId", "updatedAt") VALUES ('aa', 'client-1', now())""")

    def test_host_jobs_can_be_added_and_claimed(self, site: Site, webhook: Session) -> None:
        site.host.add_job("a", "PENDING", id="live", dedupeKey="lead_scoring:a:a/1")

        with site.engine.begin() as connection:
            do_page(connection, site)
            webhook.execute("SET LOCAL lock_timeout = 1")
            webhook.execute(STARTED_JOB, ["live"])


class TestRowLockedByTheHost:
    @pytest.fixture
    def hasty(self, site: Site) -> Site:
        """Return a worker with a short lock timeout, on a host with three leads."""
        site.host.add_leads("a")
        site.host.add_leads("b", sentimentTag="Blacklist")
        site.host.add_leads("c")
        site.host.add_job("c", "PENDING")
        return site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="100")

    @pytest.mark.parametrize(("statement", "row"), [(LIVE_LEAD, "b"), (STARTED_JOB, "job-c")], ids=["a lead", "a job"])
    def test_lock_timeout_is_transient_and_changes_nothing(
        self, site: Site, hasty: Site, statement: str, row: str
    ) -> None:
        message = started(site)
        before = site.host.versions()

        with site.host.session() as session:
            session.execute(statement.encode(), [row])
            with pytest.raises(DBAPIError) as error:
                do(hasty, message)
            session.rollback()

        assert error.value.orig is not None
        assert isinstance(error.value.orig, psycopg.errors.LockNotAvailable)
        assert is_transient(error.value)
        assert site.host.versions() == before
        hasty.engine.dispose()

    def test_page_succeeds_after_the_lock_is_released(self, site: Site, hasty: Site) -> None:
        message = started(site)
        with site.host.session() as session:
            session.execute(LIVE_LEAD.encode(), ["b"])
            with pytest.raises(DBAPIError):
                do(hasty, message)
            session.rollback()

        assert classes(do(hasty, message).result) == {"inserted": 1, "refreshed": 1, "disqualified": 1}
        hasty.engine.dispose()

    def test_lead_that_gets_a_job_may_be_locked(self, site: Site, hasty: Site) -> None:
        message = started(site)

        with site.host.session() as session:
            session.execute(LIVE_LEAD.encode(), ["a"])
            done = do(hasty, message)

        assert done.result.counts["read"] == 3
        hasty.engine.dispose()


class TestRowChangedByTheHost:
    @pytest.fixture
    def patient(self, site: Site) -> Site:
        return site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="60000", BACKFILL_STATEMENT_TIMEOUT_MS="60000")

    def test_changed_row_is_detected(self, site: Site, aside: ThreadPoolExecutor) -> None:
        site.host.add_leads("a")
        site.host.add_job("a", "PENDING")

        with site.host.session() as session:
            session.execute(STARTED_JOB.encode(), ["job-a"])
            page = aside.submit(site.page)
            site.host.wait_until_blocked()

        assert isinstance(page.exception(), RowChanged)

    def test_job_that_starts_running_is_left_alone(self, site: Site, patient: Site, aside: ThreadPoolExecutor) -> None:
        site.host.add_leads("a", "b")
        site.host.add_job("a", "PENDING")
        message = started(site)

        with site.host.session() as session:
            session.execute(STARTED_JOB.encode(), ["job-a"])
            page = aside.submit(do, patient, message)
            site.host.wait_until_blocked()

        assert classes(page.result().result) == {"inserted": 1, "in_flight": 1}
        job = site.host.job("a")
        assert job is not None
        assert (job["status"], job["lockedBy"]) == ("RUNNING", "runner-2")
        patient.engine.dispose()

    def test_job_that_appears_is_refreshed(self, site: Site, patient: Site, aside: ThreadPoolExecutor) -> None:
        site.host.add_leads("a")
        message = started(site)
        insert = """INSERT INTO "BackgroundJob" (id, type, "dedupeKey", "clientId", "leadId", "messageId", "updatedAt")
            VALUES ('other', 'LEAD_SCORING_POST_PROCESS', 'lead_scoring_backfill:a', 'client-1', 'a', 'a/1', now())"""

        with site.host.session() as session:
            session.execute(insert.encode())
            page = aside.submit(do, patient, message)
            site.host.wait_until_blocked()

        assert classes(page.result().result) == {"refreshed": 1}
        assert site.host.enqueued() == ["a"]
        patient.engine.dispose()

    def test_lead_that_loses_its_tag_is_not_disqualified(
        self, site: Site, patient: Site, aside: ThreadPoolExecutor
    ) -> None:
        site.host.add_leads("a", sentimentTag="Blacklist")
        message = started(site)

        with site.host.session() as session:
            session.execute("""UPDATE "Lead" SET "sentimentTag" = 'Interested' WHERE id = 'a'""")
            page = aside.submit(do, patient, message)
            site.host.wait_until_blocked()

        assert classes(page.result().result) == {"inserted": 1}
        assert site.host.lead("a")["overallScore"] is None
        patient.engine.dispose()

    def test_deleted_lead_is_no_error_and_is_not_counted(
        self, site: Site, patient: Site, aside: ThreadPoolExecutor
    ) -> None:
        site.host.add_leads("a", "b", "c")
        message = started(site)

        with site.host.session() as session:
            session.execute("""DELETE FROM "Lead" WHERE id = 'b'""")
            page = aside.submit(do, patient, message)
            site.host.wait_until_blocked()

        done = page.result()
        assert (done.result.counts["read"], done.quarantined) == (2, 0)
        assert site.host.enqueued() == ["a", "c"]
        patient.engine.dispose()

    def test_deleted_anchor_is_replaced_by_the_next_message(
        self, site: Site, patient: Site, aside: ThreadPoolExecutor
    ) -> None:
        site.host.add_leads("a", inbound=2)
        message = started(site)

        with site.host.session() as session:
            session.execute("""DELETE FROM "Message" WHERE id = 'a/2'""")
            page = aside.submit(do, patient, message)
            site.host.wait_until_blocked()

        assert page.result().quarantined == 0
        job = site.host.job("a")
        assert job is not None
        assert job["messageId"] == "a/1"
        patient.engine.dispose()


class TestRowRefusedByTheDatabase:
    @pytest.fixture
    def refusing_site(self, own_site: Site) -> Site:
        """Return a host that refuses jobs of leads whose id contains x, and scores of leads whose id contains y."""
        own_site.host.do("""ALTER TABLE "BackgroundJob" ADD CONSTRAINT no_x CHECK ("leadId" !~ 'x')""")
        own_site.host.do("""ALTER TABLE "Lead" ADD CONSTRAINT no_y CHECK (id !~ 'y' OR "overallScore" IS NULL)""")
        return own_site

    def test_row_is_quarantined_and_the_others_commit(self, refusing_site: Site) -> None:
        refusing_site.host.add_leads("a", "b", "cx", "d", "ex", "f")
        refusing_site.host.add_leads("gy", "h", sentimentTag="Blacklist")

        run = refusing_site.whole_run()

        assert run.state == "complete"
        assert {name: count for name, count in run.counts.items() if count} == {
            "read": 8,
            "inserted": 4,
            "disqualified": 1,
            "quarantined": 3,
        }
        assert refusing_site.host.enqueued() == ["a", "b", "d", "f"]

    def test_quarantine_keeps_the_databases_error(self, refusing_site: Site) -> None:
        refusing_site.host.add_leads("ax", "b")

        run = refusing_site.whole_run()

        with refusing_site.engine.begin() as connection:
            (kept,) = ledger.quarantined(connection, run.id, most=10)
        error = 'new row for relation "BackgroundJob" violates check constraint "no_x" (23514)'
        assert kept == Quarantined("ax", error)

    def test_ordinals_skip_quarantined_leads(self, refusing_site: Site) -> None:
        refusing_site.host.add_leads("a", "bx", "c")

        run = refusing_site.whole_run(delay_ms=1_000)

        statement = (
            'SELECT extract(epoch FROM "runAt" - min("runAt") OVER ())::int FROM "BackgroundJob" ORDER BY id, "leadId"'
        )
        assert sorted(refusing_site.host.values(statement)) == [0, 1]
        assert run.ordinal == 2

    def test_page_with_quarantined_leads_only_is_passed(self, refusing_site: Site) -> None:
        refusing_site.host.add_leads("x1", "x2", "x3", "z")

        run = refusing_site.whole_run(limit=3)

        assert (run.state, run.pages, run.counts["quarantined"], run.counts["inserted"]) == ("complete", 2, 3, 1)


class TestPermanentError:
    def test_permanent_error_changes_nothing_and_is_not_bisected(self, own_site: Site) -> None:
        own_site.host.add_leads("a", "b")
        message = started(own_site)
        own_site.host.do('ALTER TABLE "BackgroundJob" DROP COLUMN "lastError"')

        with pytest.raises(DBAPIError, match="lastError"):
            do(own_site, message)
        assert own_site.host.values("SELECT count(*) FROM backfill.page") == [0]
        assert own_site.host.enqueued() == []
