"""The road: each lead that a run has enqueued is in exactly one place, whatever the host does meanwhile."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from integration.site import Host, Site

from backfill_tasks.engine.model import Run
from backfill_tasks.engine.road import Road
from backfill_tasks.monitoring.roads import Roads
from backfill_tasks.observer import Observer
from backfill_tasks.snapshot import Snapshot

LEADS = tuple(f"lead-{number}" for number in range(6))

#: The host's runner ends a job: first the score, then the job, each with its own time.
HOST_SCORES = """
UPDATE "Lead" SET "overallScore" = 3, "fitScore" = 3, "intentScore" = 3,
  "scoredAt" = now() AT TIME ZONE 'UTC' - interval '7 milliseconds' WHERE id = %s
"""
HOST_ENDS = """
UPDATE "BackgroundJob" SET status = %s::"BackgroundJobStatus", "finishedAt" = now() AT TIME ZONE 'UTC',
  "updatedAt" = now() AT TIME ZONE 'UTC', "lockedAt" = NULL, "lockedBy" = NULL WHERE "leadId" = %s
"""
PUT = 'UPDATE "BackgroundJob" SET status = %s::"BackgroundJobStatus", "runAt" = "runAt" + %s WHERE "leadId" = %s'


def score(host: Host, *leads: str, status: str = "SUCCEEDED") -> None:
    """Let the host's runner score leads."""
    for lead in leads:
        host.do(HOST_SCORES, lead)
        host.do(HOST_ENDS, status, lead)


def end(host: Host, *leads: str, status: str) -> None:
    """Let jobs end without a score."""
    for lead in leads:
        host.do(HOST_ENDS, status, lead)


def snapshot(site: Site, run: Run) -> Snapshot:
    """Read a run and its road, as `status` does."""
    return Observer(site.settings, site.parts, 15_000).snapshot(site.read(run.id))


def road(site: Site, run: Run) -> Road:
    """Return the road of a run; its numbers always add up."""
    found = snapshot(site, run).road
    assert found is not None
    assert found.read == found.enqueued + found.at_once + found.left_alone + found.quarantined
    assert found.outcome is None or found.outcome.enqueued == found.enqueued
    return found


def places(site: Site, run: Run) -> Mapping[str, int]:
    """Return how many enqueued leads are in each place, without the places that have none."""
    found = road(site, run).outcome
    assert found is not None
    every = {**found.done_by, **found.waiting, **found.without, "taken_over": found.taken_over}
    return {place: number for place, number in every.items() if number}


@pytest.fixture
def run(site: Site) -> Run:
    """A complete run that has enqueued six leads, all due at once."""
    site.host.add_leads(*LEADS)
    whole = site.whole_run()
    site.host.do("""UPDATE "BackgroundJob" SET "runAt" = "runAt" - interval '1 minute'""")
    return whole


class TestPlaces:
    def test_each_lead_is_in_one_place(self, site: Site, run: Run) -> None:
        score(site.host, "lead-0")
        end(site.host, "lead-1", status="FAILED")
        end(site.host, "lead-2", status="SUCCEEDED")
        site.host.do(PUT, "RUNNING", timedelta(0), "lead-3")
        site.host.do(PUT, "PENDING", timedelta(hours=3), "lead-4")

        assert places(site, run) == {"host": 1, "failed": 1, "without_score": 1, "running": 1, "later": 1, "due": 1}

    def test_lead_scored_by_our_workers_is_scored_here(self, site: Site, run: Run) -> None:
        site.host.do(
            """
            WITH job AS (
              UPDATE "BackgroundJob" SET status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC',
                "updatedAt" = now() AT TIME ZONE 'UTC' WHERE "leadId" = 'lead-0' RETURNING "leadId"
            )
            UPDATE "Lead" SET "overallScore" = 2, "scoredAt" = now() AT TIME ZONE 'UTC' FROM job WHERE id = "leadId"
            """
        )
        score(site.host, "lead-1")

        assert places(site, run) == {"here": 1, "host": 1, "due": 4}

    def test_deleted_lead_is_gone_with_its_job(self, site: Site, run: Run) -> None:
        site.host.do("""DELETE FROM "Lead" WHERE id IN ('lead-0', 'lead-1')""")

        assert places(site, run) == {"gone": 2, "due": 4}

    def test_deleted_job_leaves_a_lead_without_a_score(self, site: Site, run: Run) -> None:
        site.host.do("""DELETE FROM "Message" WHERE "leadId" = 'lead-0'""")

        assert places(site, run) == {"removed": 1, "due": 5}

    def test_lead_with_a_score_counts_as_scored_even_if_its_job_failed_or_is_gone(self, site: Site, run: Run) -> None:
        score(site.host, "lead-0", status="FAILED")
        score(site.host, "lead-1")
        site.host.do("""DELETE FROM "BackgroundJob" WHERE "leadId" = 'lead-1'""")

        assert places(site, run) == {"otherwise": 2, "due": 4}

    def test_job_that_the_host_resets_waits_again(self, site: Site, run: Run) -> None:
        end(site.host, "lead-0", "lead-1", status="FAILED")
        site.host.do(PUT, "PENDING", timedelta(minutes=2), "lead-0")

        assert places(site, run) == {"failed": 1, "later": 1, "due": 4}

    def test_job_of_unknown_status_has_no_result(self, own_site: Site) -> None:
        own_site.host.do("""ALTER TYPE "BackgroundJobStatus" ADD VALUE 'CANCELLED'""")
        own_site.host.add_leads("lead-0")
        run = own_site.whole_run()
        own_site.host.do("""UPDATE "BackgroundJob" SET status = 'CANCELLED'""")

        assert places(own_site, run) == {"unknown_status": 1}

    def test_job_that_is_never_due_waits_apart(self, site: Site, run: Run) -> None:
        site.host.do("""UPDATE "BackgroundJob" SET "runAt" = 'infinity' WHERE "leadId" = 'lead-0'""")

        assert places(site, run) == {"never_due": 1, "due": 5}

    def test_reserved_jobs_are_not_due(self, site: Site) -> None:
        site.host.add_leads(*LEADS)

        assert places(site, site.whole_run(score_here=True)) == {"later": 6}


class TestRuns:
    def test_lead_that_a_later_run_enqueues_again_is_taken_over(self, site: Site, run: Run) -> None:
        score(site.host, "lead-0")
        end(site.host, "lead-1", status="FAILED")
        site.host.do(PUT, "RUNNING", timedelta(0), "lead-2")

        later = site.whole_run()

        assert places(site, run) == {"host": 1, "running": 1, "taken_over": 4}
        assert sum(places(site, later).values()) == 4
        assert road(site, later).left_alone == 1

    def test_old_score_is_no_result_of_a_run_over_scored_leads(self, site: Site, run: Run) -> None:
        score(site.host, *LEADS)
        site.host.do("""UPDATE "Lead" SET "scoredAt" = "scoredAt" - interval '1 day'""")

        again = site.whole_run(rescore_all=True)
        end(site.host, "lead-0", status="SUCCEEDED")
        score(site.host, "lead-1")

        found = Counter(places(site, again))
        assert (found.pop("without_score"), found.pop("host"), found.total()) == (1, 1, 4)
        assert places(site, run) == {"taken_over": 6}

    def test_retried_lead_is_enqueued(self, strict_site: Site) -> None:
        strict_site.host.add_leads("lead-1", "lead-2")
        strict_site.host.refuse_jobs_of("lead-2")
        run = strict_site.whole_run()
        before = road(strict_site, run)
        strict_site.host.refuse_jobs_of()

        list(strict_site.parts.retrier.retry(run.id))

        after = road(strict_site, run)
        assert (before.enqueued, before.quarantined, before.without_result) == (1, 1, 1)
        assert (after.enqueued, after.quarantined, after.without_result) == (2, 0, 0)

    def test_disqualified_leads_have_their_score_at_once(self, site: Site) -> None:
        site.host.add_leads("lead-1", sentimentTag="Bounce")
        site.host.add_leads("lead-2")

        found = road(site, site.whole_run())

        assert (found.eligible, found.at_once, found.to_enqueue, found.done) == (2, 1, 1, 1)

    def test_run_in_progress_waits_for_the_leads_it_has_not_read(self, site: Site) -> None:
        site.host.add_leads(*LEADS)
        run = site.start(limit=2)
        site.host.do("UPDATE backfill.run SET expected = 6")
        site.deliver()

        found = road(site, run)

        assert (found.eligible, found.is_counted, found.enqueued, found.waiting) == (6, True, 2, 6)

    def test_backfill_without_jobs_is_done_when_it_is_read(self, site: Site) -> None:
        site.host.add_leads(*LEADS)

        found = road(site, site.whole_run(backfill="message-rollups"))

        assert (found.has_jobs, found.done, found.waiting, found.has_ended) == (False, 6, 0, True)


class TestEnd:
    def test_road_ends_when_no_lead_waits(self, site: Site, run: Run) -> None:
        score(site.host, *LEADS[:4])
        end(site.host, "lead-4", status="FAILED")
        before = snapshot(site, run)
        site.host.do("""DELETE FROM "Lead" WHERE id = 'lead-5'""")
        after = snapshot(site, run)

        assert (before.has_items_on_their_way, after.has_items_on_their_way) == (True, False)
        assert after.road is not None
        assert (after.road.has_ended, after.road.without_result) == (True, 2)

    def test_job_that_is_never_due_is_not_waited_for(self, site: Site, run: Run) -> None:
        score(site.host, *LEADS[1:])
        site.host.do("""UPDATE "BackgroundJob" SET "runAt" = 'infinity' WHERE "leadId" = 'lead-0'""")

        found = snapshot(site, run)

        assert not found.has_items_on_their_way
        assert found.road is not None
        assert not found.road.has_ended

    def test_jobs_that_cannot_be_counted_may_still_wait(self, site: Site, run: Run) -> None:
        found = replace(snapshot(site, run), host=None)

        assert found.has_items_on_their_way

    def test_run_without_a_record_of_its_jobs_is_not_waited_for(self, site: Site, run: Run) -> None:
        site.host.do("UPDATE backfill.page SET enqueued = NULL")

        assert not snapshot(site, run).has_items_on_their_way


class TestExporter:
    """The exporter counts jobs again only as long as they can still change."""

    @pytest.mark.usefixtures("run")
    def test_jobs_of_a_settled_run_are_not_counted_again(self, site: Site) -> None:
        score(site.host, *LEADS)
        roads = Roads(Observer(site.settings, site.parts, 15_000))
        first = roads.ask()
        site.host.do('DELETE FROM "Lead"')

        assert [each.road.done for each in first] == [6]
        assert roads.ask() == first

    @pytest.mark.usefixtures("run")
    def test_jobs_that_wait_are_counted_again(self, site: Site) -> None:
        roads = Roads(Observer(site.settings, site.parts, 15_000))
        before = [each.road.done for each in roads.ask()]
        score(site.host, "lead-0")

        assert (before, [each.road.done for each in roads.ask()]) == ([0], [1])
