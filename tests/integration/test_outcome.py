"""The outcome: what the host has done with a run's jobs."""

from datetime import datetime, timedelta

import pytest
from integration.site import Site

from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Outcome

SUCCEED = """
UPDATE "BackgroundJob" SET status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC' WHERE "leadId" = %s
"""
SCORE = """
UPDATE "Lead" SET "overallScore" = 3, "scoredAt" = now() AT TIME ZONE 'UTC' WHERE id = %s
"""


@pytest.fixture
def run(site: Site) -> Run:
    """Return a run that has enqueued the jobs of three leads."""
    site.host.add_leads("lead-1", "lead-2", "lead-3")
    return site.whole_run()


def outcome(site: Site, run: Run) -> Outcome:
    with site.engine.begin() as connection:
        found = site.parts.backfills[run.parameters.backfill].outcome(connection, run)
    assert found is not None
    return found


def began_earlier(site: Site, run: Run, *, minutes: int) -> Run:
    site.host.do("UPDATE backfill.run SET started_at = started_at - %s", timedelta(minutes=minutes))
    return site.read(run.id)


def test_jobs_are_counted_by_status(site: Site, run: Run) -> None:
    site.host.do(SUCCEED, "lead-1")

    found = outcome(site, run)

    assert found.jobs == {"PENDING": 2, "RUNNING": 0, "SUCCEEDED": 1, "FAILED": 0}
    assert found.unended == 2


def test_earlier_runs_finished_job_is_not_counted(site: Site) -> None:
    site.host.add_leads("lead-1", "lead-2")
    site.host.add_job("lead-1", "SUCCEEDED")
    site.host.do(SCORE, "lead-1")

    found = outcome(site, site.whole_run())

    assert found.jobs == {"PENDING": 1, "RUNNING": 0, "SUCCEEDED": 0, "FAILED": 0}


def test_run_that_read_nothing_has_no_jobs_and_no_results(site: Site, run: Run) -> None:
    site.host.do(SUCCEED, "lead-1")
    for lead in ("lead-1", "lead-2", "lead-3"):
        site.host.do(SCORE, lead)

    later = site.whole_run()
    site.host.do("""UPDATE "BackgroundJob" SET "runAt" = now() AT TIME ZONE 'UTC' + interval '1 minute'""")

    assert later.counts["read"] == 0
    assert sum(outcome(site, later).jobs.values()) == 0
    assert outcome(site, later).done == 0
    assert (outcome(site, run).jobs["PENDING"], outcome(site, run).jobs["SUCCEEDED"]) == (2, 1)


def test_job_belongs_to_the_last_run_that_wrote_it(site: Site, run: Run) -> None:
    site.host.do(SUCCEED, "lead-1")
    site.host.do(SCORE, "lead-1")
    site.host.do("""UPDATE "BackgroundJob" SET status = 'RUNNING' WHERE "leadId" = 'lead-2'""")

    later = site.whole_run()

    assert outcome(site, run).jobs == {"PENDING": 0, "RUNNING": 1, "SUCCEEDED": 1, "FAILED": 0}
    assert outcome(site, later).jobs == {"PENDING": 1, "RUNNING": 0, "SUCCEEDED": 0, "FAILED": 0}


def test_rescheduled_job_still_belongs_to_the_run(site: Site, run: Run) -> None:
    site.host.do("""UPDATE "BackgroundJob" SET "runAt" = "runAt" - interval '1 day', attempts = 1""")

    assert outcome(site, run).jobs["PENDING"] == 3


def test_job_retried_from_quarantine_belongs_to_the_run(strict_site: Site) -> None:
    strict_site.host.add_leads("lead-1", "lead-2")
    strict_site.host.refuse_jobs_of("lead-2")
    run = strict_site.whole_run()
    strict_site.host.refuse_jobs_of()
    between = strict_site.whole_run()

    list(strict_site.parts.retrier.retry(run.id))

    assert outcome(strict_site, run).jobs["PENDING"] == 1
    assert outcome(strict_site, between).jobs["PENDING"] == 1


def test_jobs_of_a_bisected_page_belong_to_the_run(strict_site: Site) -> None:
    strict_site.host.add_leads(*(f"lead-{number}" for number in range(8)))
    strict_site.host.refuse_jobs_of("lead-3", "lead-6")

    assert outcome(strict_site, strict_site.whole_run()).jobs["PENDING"] == 6


def test_resumed_run_keeps_its_jobs(site: Site) -> None:
    site.host.add_leads("lead-1", "lead-2", "lead-3")
    run = site.start(limit=1)
    site.deliver()
    site.runs.pause(run.id, "by the test")
    site.deliver_all()

    site.runs.resume(run.id)
    site.deliver_all()

    assert outcome(site, site.read(run.id)).jobs["PENDING"] == 3


def test_disqualified_leads_are_not_done_by_the_host(site: Site) -> None:
    site.host.add_leads("lead-1", sentimentTag="Bounce")
    site.host.add_job("lead-1", "SUCCEEDED", runAt=datetime(2099, 1, 1))  # noqa: DTZ001  the host's columns have no time zone

    assert outcome(site, site.whole_run()).done == 0


def test_outcome_of_an_older_versions_run_is_unknown(site: Site, run: Run) -> None:
    site.host.do("UPDATE backfill.page SET enqueued = NULL")

    assert not outcome(site, run).known


def test_unknown_status_is_counted_by_name(own_site: Site) -> None:
    own_site.host.do("""ALTER TYPE "BackgroundJobStatus" ADD VALUE 'CANCELLED'""")
    own_site.host.add_leads("lead-1")
    run = own_site.whole_run()
    own_site.host.do("""UPDATE "BackgroundJob" SET status = 'CANCELLED'""")

    found = outcome(own_site, run)

    assert found.jobs["CANCELLED"] == 1
    assert (found.unended, found.without_result) == (0, 1)


def test_live_jobs_are_not_counted(site: Site, run: Run) -> None:
    site.host.add_job("lead-1", "PENDING", id="live", dedupeKey="lead_scoring:lead-1:1", runAt=run.seen_at)

    assert outcome(site, run).jobs["PENDING"] == 3


def test_lead_is_done_once_it_has_its_score(site: Site, run: Run) -> None:
    site.host.do(SUCCEED, "lead-1")
    site.host.do(SUCCEED, "lead-2")
    site.host.do(SCORE, "lead-2")

    assert outcome(site, run).done == 1


def test_oldest_due_job_gives_the_waiting_time(site: Site, run: Run) -> None:
    (due,) = site.host.values('SELECT min("runAt") FROM "BackgroundJob"')

    found = outcome(site, run)

    assert found.oldest_due_at is not None
    assert found.oldest_due_at.replace(tzinfo=None) == due


def test_future_job_is_not_the_oldest_due_one(site: Site) -> None:
    site.host.add_leads("lead-1")

    found = outcome(site, site.whole_run(delay_ms=3_600_000))

    assert found.oldest_due_at is None
    assert found.last_due_at is not None
    assert found.last_due_at > found.seen_at


def test_jobs_per_minute_are_unknown_at_first(site: Site, run: Run) -> None:
    site.host.do(SUCCEED, "lead-1")

    assert outcome(site, run).per_minute is None


def test_jobs_per_minute_are_known_after_a_while(site: Site, run: Run) -> None:
    earlier = began_earlier(site, run, minutes=60)
    site.host.do(SUCCEED, "lead-1")

    assert outcome(site, earlier).per_minute == pytest.approx(0.1)


def test_only_the_runs_workspaces_are_counted(site: Site) -> None:
    site.host.add_client("client-2")
    site.host.add_leads("lead-1")
    site.host.add_leads("lead-2", clientId="client-2")
    first = site.whole_run(client_ids=["client-2"])
    site.whole_run(client_ids=["client-1"])

    assert outcome(site, first).jobs["PENDING"] == 1


def test_backfill_without_jobs_has_no_outcome(site: Site) -> None:
    site.host.add_leads("lead-1")
    run = site.whole_run(backfill="message-rollups")

    with site.engine.begin() as connection:
        assert site.parts.backfills["message-rollups"].outcome(connection, run) is None
