"""The verification finds what is missing and which count is wrong, and nothing else."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from harness import wait_for
from integration.site import NOON, STATEMENT_MS, Site

from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.verification import Verification, Verifier


@pytest.fixture
def run(site: Site) -> RunId:
    """Return a complete run of two lanes over leads of every class, in pages of two."""
    site.host.add_leads(*(f"lead-{number}" for number in range(1, 9)))
    site.host.add_leads("lead-9", "lead-a", sentimentTag="Blacklist")
    for lead, status in (("lead-1", "SUCCEEDED"), ("lead-2", "PENDING"), ("lead-3", "RUNNING")):
        site.host.add_job(lead, status)
    return site.whole_run(limit=2, lanes=2).id


def tamper(site: Site, statement: str) -> None:
    site.host.do(statement)


class TestClean:
    def test_complete_run_is_clean(self, site: Site, run: RunId) -> None:
        found = site.verify(run)

        assert found.clean
        assert found.found == {"inserted": (5, 5), "disqualified": (2, 2)}

    def test_complete_run_over_every_kind_of_lead_is_clean(self, sample_site: Site) -> None:
        found = sample_site.verify(sample_site.whole_run(limit=90, lanes=3).id)

        assert (found.missing, found.contradictions) == ((), ())

    def test_unfinished_run_is_clean_up_to_its_cursor(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c")
        run = site.start(limit=1)
        site.deliver()

        assert site.verify(run.id).clean

    def test_run_over_one_workspace_is_clean(self, site: Site) -> None:
        site.host.add_client("client-2")
        site.host.add_leads("a")
        site.host.add_leads("b", clientId="client-2")

        assert site.verify(site.whole_run(client_ids=["client-2"]).id).clean

    @pytest.mark.parametrize("full", [False, True])
    def test_runs_with_equal_page_times_are_both_clean(self, site: Site, *, full: bool) -> None:
        site.host.add_client("client-2")
        site.host.add_leads("a", "d")
        site.host.add_leads("b", clientId="client-2")
        site.host.add_leads("c", clientId="client-2", sentimentTag="Blacklist")
        runs = [site.whole_run(client_ids=[client]).id for client in ("client-1", "client-2")]
        tamper(site, f"UPDATE backfill.page SET at = '{NOON}'")
        tamper(site, f"""UPDATE "BackgroundJob" SET "createdAt" = '{NOON}'""")
        tamper(site, f"""UPDATE "Lead" SET "scoredAt" = '{NOON}' WHERE id = 'c'""")

        found = [site.verify(run, full=full) for run in runs]

        assert [each.contradictions for each in found] == [(), ()]
        assert [each.found for each in found] == [
            {"inserted": (2, 2), "disqualified": (0, 0)},
            {"inserted": (1, 1), "disqualified": (1, 1)},
        ]

    def test_run_over_scored_leads_is_clean(self, site: Site) -> None:
        site.host.add_leads("a", "b", overallScore=2)
        site.host.add_leads("c", overallScore=2, sentimentTag="Bounce")

        assert site.verify(site.whole_run(rescore_all=True).id).clean

    def test_verification_writes_nothing(self, site: Site, run: RunId) -> None:
        before = site.host.versions()

        site.verify(run)

        assert site.host.versions() == before


class TestLaterChanges:
    def test_finished_jobs_are_not_missing(self, site: Site, run: RunId) -> None:
        site.host.do("""UPDATE "Lead" SET "overallScore" = 3, "scoredAt" = now() WHERE id IN ('lead-4', 'lead-5')""")
        site.host.do("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED' WHERE "leadId" = 'lead-4'""")
        site.host.do("""DELETE FROM "BackgroundJob" WHERE "leadId" = 'lead-5'""")

        found = site.verify(run)

        assert found.clean
        assert found.found["inserted"] == (5, 4)

    def test_deleted_leads_are_not_missing(self, site: Site, run: RunId) -> None:
        site.host.do("""DELETE FROM "Lead" WHERE id IN ('lead-4', 'lead-9')""")

        found = site.verify(run)

        assert found.clean
        assert found.found == {"inserted": (5, 4), "disqualified": (2, 1)}

    def test_later_leads_count_as_arrived(self, site: Site, run: RunId) -> None:
        (now,) = site.host.values("SELECT (now() AT TIME ZONE 'UTC')::timestamp(3)")
        site.host.add_leads("lead-4a", inbound=0, createdAt=now)
        site.host.add_message("first word", "lead-4a", createdAt=now)

        found = site.verify(run)

        assert found.clean
        assert found.arrived == 1

    def test_leads_with_a_later_first_message_count_as_arrived(self, site: Site) -> None:
        site.host.add_leads("a", "c")
        site.host.add_leads("b", inbound=0)
        run = site.whole_run()
        (now,) = site.host.values("SELECT (now() AT TIME ZONE 'UTC')::timestamp(3)")
        site.host.add_message("first word", "b", createdAt=now)

        found = site.verify(run.id)

        assert (found.missing, found.arrived) == ((), 1)

    def test_pages_done_during_the_verification_contradict_nothing(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c")
        run = site.start(limit=1)
        site.deliver()
        read = site.read(run.id)
        site.deliver_all()

        assert Verifier(site.engine, site.parts.backfills["lead-scoring"], STATEMENT_MS).verify(read).clean

    def test_later_run_over_the_same_leads_does_not_contradict_it(self, site: Site, run: RunId) -> None:
        later = site.whole_run(rescore_all=True).id

        assert site.verify(run).clean
        assert site.verify(later).clean


class TestMissing:
    def test_lead_that_lost_its_job_is_missing(self, site: Site, run: RunId) -> None:
        tamper(site, """DELETE FROM "BackgroundJob" WHERE "leadId" IN ('lead-2', 'lead-6')""")

        found = site.verify(run)

        assert found.missing == ("lead-2", "lead-6")
        assert not found.clean

    def test_disqualified_lead_without_its_score_is_missing(self, site: Site, run: RunId) -> None:
        tamper(site, """UPDATE "Lead" SET "overallScore" = NULL, "scoredAt" = NULL WHERE id = 'lead-9'""")

        assert site.verify(run).missing == ("lead-9",)

    def test_host_job_is_no_substitute(self, site: Site, run: RunId) -> None:
        tamper(site, """UPDATE "BackgroundJob" SET "dedupeKey" = 'lead_scoring:x' WHERE "leadId" = 'lead-6'""")

        assert site.verify(run).missing == ("lead-6",)

    def test_quarantined_lead_is_counted_and_not_missing(self, own_site: Site) -> None:
        own_site.host.do("""ALTER TABLE "BackgroundJob" ADD CONSTRAINT no_x CHECK ("leadId" <> 'x')""")
        own_site.host.add_leads("a", "x")

        found = own_site.verify(own_site.whole_run().id)

        assert (found.wrong, found.clean) == (False, False)
        assert found.quarantined == 1

    def test_leads_after_the_cursor_are_not_missing(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c")
        run = site.start(limit=1)
        site.deliver()

        assert site.verify(run.id).missing == ()


class TestUnresolved:
    """Leads that have their job but no result."""

    def test_failed_job_or_missing_score_is_reported_and_not_clean(self, site: Site, run: RunId) -> None:
        tamper(site, """UPDATE "BackgroundJob" SET status = 'FAILED' WHERE "leadId" IN ('lead-4', 'lead-7')""")
        tamper(site, """UPDATE "BackgroundJob" SET status = 'SUCCEEDED' WHERE "leadId" = 'lead-5'""")

        found = site.verify(run)

        assert found.unresolved == {"failed": ("lead-4", "lead-7"), "without_score": ("lead-5",), "unknown_status": ()}
        assert (found.wrong, found.clean, found.waiting) == (False, False, 5)

    def test_unknown_job_status_is_reported_and_not_clean(self, own_site: Site) -> None:
        own_site.host.do("""ALTER TYPE "BackgroundJobStatus" ADD VALUE 'CANCELLED'""")
        own_site.host.add_leads("a")
        run = own_site.whole_run().id
        own_site.host.do("""UPDATE "BackgroundJob" SET status = 'CANCELLED'""")

        found = own_site.verify(run)

        assert (found.unresolved["unknown_status"], found.clean) == (("a",), False)

    def test_earlier_score_is_no_result_of_a_rescoring_run(self, site: Site) -> None:
        site.host.add_leads("old", "new", overallScore=2, scoredAt=NOON)
        run = site.whole_run(rescore_all=True)
        site.host.do("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED'""")
        site.host.do("""UPDATE "Lead" SET "scoredAt" = now() AT TIME ZONE 'UTC' WHERE id = 'new'""")

        assert site.verify(run.id).unresolved["without_score"] == ("old",)

    def test_quarantined_lead_with_a_failed_job_counts_once(self, own_site: Site) -> None:
        own_site.host.do('ALTER TABLE "BackgroundJob" ADD CONSTRAINT no_x CHECK ("leadId" <> \'x\' OR attempts > 0)')
        own_site.host.add_leads("a", "x")
        own_site.host.add_job("x", "FAILED")

        found = own_site.verify(own_site.whole_run().id)

        assert (found.quarantined, found.unresolved["failed"]) == (1, ())

    def test_pending_jobs_are_counted_and_clean(self, site: Site, run: RunId) -> None:
        found = site.verify(run)

        assert (found.waiting, found.clean) == (8, True)


class TestNothingSeen:
    def test_run_without_a_page_is_not_clean(self, site: Site) -> None:
        site.host.add_leads("a")
        run = site.start()

        found = site.verify(run.id)

        assert (found.looked_at, found.wrong, found.clean) == (0, False, False)

    def test_run_without_visible_leads_is_not_clean(self, site: Site, run: RunId) -> None:
        tamper(site, 'DELETE FROM "Lead"')

        assert not site.verify(run).clean


class TestWrongCounts:
    @pytest.mark.parametrize(
        ("tampering", "said"),
        [
            (
                """UPDATE backfill.page SET counts = counts || '{"inserted": 2}' WHERE lane = 1 AND number = 3""",
                "lane 1 page 3: its classes don't add up to the number read",
            ),
            (
                """UPDATE backfill.page SET counts = counts || '{"read": 1, "inserted": 0}'
                WHERE lane = 1 AND number = 3""",
                "lane 1 page 3: the ledger counts 0 inserted, but the database has 1",
            ),
            (
                """UPDATE backfill.page SET counts = counts || '{"read": 0, "disqualified": 0}'
                WHERE (counts->>'disqualified')::int > 0""",
                "the ledger counts 0 disqualified, but the database has",
            ),
            (
                """UPDATE backfill.lane SET counts = counts || '{"requeued": 9}' WHERE number = 1""",
                "lane 1 counts 9 requeued, but its pages 1",
            ),
            (
                """UPDATE backfill.lane SET counts = counts - 'inserted' WHERE number = 2""",
                "lane 2 counts 0 inserted, but its pages",
            ),
            (
                "DELETE FROM backfill.page WHERE lane = 1 AND number = 2",
                "lane 1 page 3 starts after lead-4, but the last ended at lead-2",
            ),
            (
                "UPDATE backfill.page SET lower = 'lead-0' WHERE lane = 1 AND number = 1",
                "lane 1 page 1 starts after lead-0, but the last ended at None",
            ),
            (
                """UPDATE backfill.lane SET counts = counts || '{"quarantined": 1}' WHERE number = 1""",
                "the lanes count 1 quarantined, but 0 are in quarantine",
            ),
            (
                """INSERT INTO backfill.quarantine (run_id, item, lane, page, error)
                SELECT id, 'lead-1', 1, 1, 'why' FROM backfill.run""",
                "the lanes count 0 quarantined, but 1 are in quarantine",
            ),
        ],
        ids=[
            "a class of a page",
            "an insertion kept quiet",
            "a disqualification kept quiet",
            "a class of a lane",
            "a class that a lane lost",
            "a page that is gone",
            "a page moved",
            "a lane's quarantine",
            "a quarantined lead too many",
        ],
    )
    def test_wrong_count_is_reported(self, site: Site, run: RunId, tampering: str, said: str) -> None:
        tamper(site, tampering)

        found = site.verify(run)

        assert not found.clean
        assert any(said in each for each in found.contradictions), found.contradictions

    def test_missing_last_page_is_reported(self, site: Site, run: RunId) -> None:
        tamper(site, "DELETE FROM backfill.page WHERE lane = 2 AND number = 3")

        assert not site.verify(run).clean

    def test_lane_cursor_that_differs_from_its_last_page_is_reported(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c", overallScore=1)
        site.host.add_leads("d")
        run = site.whole_run()
        tamper(site, "UPDATE backfill.page SET cursor = 'a'")

        assert not site.verify(run.id).clean


class TestFull:
    def verify(self, site: Site, run: RunId) -> Verification:
        found = site.read(run)
        return Verifier(site.engine, site.parts.backfills["lead-scoring"], STATEMENT_MS, full=True).verify(found)

    def test_damaged_index_hides_no_lead(self, own_site: Site) -> None:
        own_site.host.add_leads("a", "c")
        with own_site.host.unindexed("Lead") as host:
            host.execute("""INSERT INTO "Lead" (id, "clientId", "createdAt", "updatedAt")
                SELECT 'b', "clientId", "createdAt", "updatedAt" FROM "Lead" WHERE id = 'a'""")
            host.execute("""SET session_replication_role = replica""")
            host.execute("""INSERT INTO "Message" (id, "leadId", direction, body, "sentAt", "createdAt")
                SELECT 'b/1', 'b', direction, body, "sentAt", "createdAt" FROM "Message" WHERE "leadId" = 'a'""")
        run = own_site.whole_run()

        assert own_site.verify(run.id).clean
        found = self.verify(own_site, run.id)
        assert (found.missing, found.hidden, found.wrong) == (("b",), ("b",), True)

    def test_run_after_a_reindex_does_the_hidden_lead(self, own_site: Site) -> None:
        own_site.host.add_leads("a")
        own_site.host.add_leads("b", inbound=0)
        with own_site.host.unindexed("Message") as host:
            host.execute("""INSERT INTO "Message" (id, "leadId", direction, body, "sentAt", "createdAt")
                SELECT 'b/1', 'b', direction, body, "sentAt", "createdAt" FROM "Message" WHERE "leadId" = 'a'""")
        run = own_site.whole_run()
        assert self.verify(own_site, run.id).hidden == ("b",)

        own_site.host.do('REINDEX TABLE "Message"')

        assert self.verify(own_site, run.id).hidden == ()
        own_site.whole_run()
        assert self.verify(own_site, run.id).clean

    def test_damaged_index_hides_no_uncounted_job(self, own_site: Site) -> None:
        own_site.host.add_leads("a", "c", "e")
        run = own_site.whole_run(limit=1)
        with own_site.host.unindexed("BackgroundJob") as host:
            host.execute(
                """UPDATE "BackgroundJob" SET "runAt" = now(), "dedupeKey" = "dedupeKey" WHERE "leadId" = 'c'"""
            )
        own_site.host.do(
            """UPDATE backfill.page SET counts = counts || '{"read": 0, "inserted": 0}' WHERE number = 2"""
        )
        own_site.host.do("""UPDATE backfill.lane SET counts = counts || '{"read": 2, "inserted": 2}'""")

        assert own_site.verify(run.id).contradictions == ()
        (contradiction,) = self.verify(own_site, run.id).contradictions
        assert contradiction == "lane 1 page 2: the ledger counts 0 inserted, but the database has 1"

    def test_pages_of_the_same_millisecond_are_told_apart(self, site: Site) -> None:
        site.host.add_leads("a", "c")
        site.host.add_leads("b", "d", sentimentTag="Bounce")
        run = site.whole_run(limit=1, lanes=2)
        moment = "date_trunc('milliseconds', (SELECT min(at) FROM backfill.page))"
        site.host.do(f"""UPDATE "BackgroundJob" SET "createdAt" = {moment} AT TIME ZONE 'UTC'""")
        site.host.do(f"""UPDATE "Lead" SET "scoredAt" = {moment} AT TIME ZONE 'UTC' WHERE "scoredAt" IS NOT NULL""")
        site.host.do(f"UPDATE backfill.page SET at = {moment}")

        found = self.verify(site, run.id)

        assert (found.clean, found.found) == (True, {"inserted": (2, 2), "disqualified": (2, 2)})

    def test_statements_may_take_longer_than_a_pages(self, site: Site, run: RunId) -> None:
        patience = "state = 'active' AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '7 s'"
        with psycopg.connect(site.url) as host, ThreadPoolExecutor(1) as pool:
            host.execute('LOCK TABLE "Lead"')
            verification = pool.submit(self.verify, site, run)
            waiting = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {patience}"
            wait_for(lambda: verification.done() or _one(host, waiting), what="a long statement")
            host.rollback()

            assert verification.result().looked_at

    def test_full_verification_finds_the_same(self, site: Site, run: RunId) -> None:
        tamper(site, """DELETE FROM "BackgroundJob" WHERE "leadId" IN ('lead-2', 'lead-6')""")
        tamper(site, """UPDATE "BackgroundJob" SET status = 'FAILED' WHERE "leadId" = 'lead-4'""")

        full, usual = self.verify(site, run), site.verify(run)

        assert replace(full, road=None) == replace(usual, road=None)
        assert [found.road and found.road.done for found in (full, usual)] == [2, 2]


def _one(connection: "psycopg.Connection[Any]", query: str) -> Any:
    """Return the only value of a statistics query, as of now: a transaction otherwise keeps its snapshot."""
    connection.execute("SELECT pg_stat_clear_snapshot()")
    return connection.execute(query.encode()).fetchone()[0]


class TestRoad:
    """What verification says of the leads that a run has enqueued."""

    def finish(self, site: Site, lead: str, *, overall: int | None, fit: int = 2) -> None:
        score = '"overallScore" = %s, "fitScore" = %s, "scoredAt" = now() AT TIME ZONE \'UTC\''
        site.host.do(f'UPDATE "Lead" SET {score} WHERE id = %s', overall, fit, lead)
        site.host.do("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED' WHERE "leadId" = %s""", lead)

    @pytest.fixture
    def enqueued(self, site: Site) -> RunId:
        site.host.add_leads("lead-1", "lead-2", "lead-3")
        return site.whole_run().id

    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize(("overall", "fit"), [(0, 2), (5, 2), (2, 7)])
    def test_score_outside_the_range_is_reported(
        self,
        site: Site,
        enqueued: RunId,
        full: bool,  # noqa: FBT001
        overall: int,
        fit: int,
    ) -> None:
        self.finish(site, "lead-1", overall=overall, fit=fit)
        self.finish(site, "lead-2", overall=4)

        found = site.verify(enqueued, full=full)

        assert (found.invalid, found.clean, found.wrong) == (("lead-1",), False, False)

    def test_score_outside_the_range_from_before_the_run_is_not_its_own(self, site: Site) -> None:
        site.host.add_leads("lead-1", overallScore=9, scoredAt=NOON)
        site.host.add_leads("lead-2")

        assert site.verify(site.whole_run().id).invalid == ()

    def test_succeeded_job_without_a_score_is_reported(self, site: Site, enqueued: RunId) -> None:
        self.finish(site, "lead-1", overall=None)
        self.finish(site, "lead-2", overall=3)

        found = site.verify(enqueued)

        assert found.unresolved["without_score"] == ("lead-1",)
        assert found.road is not None
        assert found.road.outcome is not None
        assert (found.road.done, found.road.outcome.unended, found.road.outcome.without_result) == (1, 1, 1)
