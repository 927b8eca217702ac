"""The other half of the work: what the host has made of a run's jobs."""

from datetime import timedelta

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
    """A run that has enqueued the jobs of three leads."""
    site.host.add_leads("lead-1", "lead-2", "lead-3")
    return site.whole_run()


def outcome(site: Site, run: Run) -> Outcome:
    with site.engine.begin() as connection:
        found = site.parts.backfills[run.parameters.backfill].outcome(
            connection, run.parameters.options, run.started_at
        )
    assert found is not None
    return found


def began_earlier(site: Site, run: Run, *, minutes: int) -> Run:
    site.host.do("UPDATE backfill.run SET started_at = started_at - %s", timedelta(minutes=minutes))
    return site.read(run.id)


def test_its_jobs_are_counted_by_status(site: Site, run: Run) -> None:
    site.host.do(SUCCEED, "lead-1")

    found = outcome(site, run)

    assert found.jobs == {"PENDING": 2, "RUNNING": 0, "SUCCEEDED": 1, "FAILED": 0}
    assert found.unended == 2


def test_a_job_of_an_earlier_run_that_was_done_before_is_none_of_its_jobs(site: Site) -> None:
    site.host.add_leads("lead-1", "lead-2")
    site.host.add_job("lead-1", "SUCCEEDED")
    site.host.do(SCORE, "lead-1")

    found = outcome(site, site.whole_run())

    assert found.jobs == {"PENDING": 1, "RUNNING": 0, "SUCCEEDED": 0, "FAILED": 0}


def test_live_jobs_are_not_counted(site: Site, run: Run) -> None:
    site.host.add_job("lead-1", "PENDING", id="live", dedupeKey="lead_scoring:lead-1:1", runAt=run.seen_at)

    assert outcome(site, run).jobs["PENDING"] == 3


def test_a_lead_is_done_when_it_has_its_score(site: Site, run: Run) -> None:
    site.host.do(SUCCEED, "lead-1")
    site.host.do(SUCCEED, "lead-2")
    site.host.do(SCORE, "lead-2")

    assert outcome(site, run).done == 1


def test_the_oldest_due_job_tells_since_when_it_waits(site: Site, run: Run) -> None:
    (due,) = site.host.values('SELECT min("runAt") FROM "BackgroundJob"')

    found = outcome(site, run)

    assert found.oldest_due_at is not None
    assert found.oldest_due_at.replace(tzinfo=None) == due


def test_a_job_that_is_due_later_is_not_the_oldest_due_one(site: Site) -> None:
    site.host.add_leads("lead-1")

    found = outcome(site, site.whole_run(delay_ms=3_600_000))

    assert found.oldest_due_at is None
    assert found.last_due_at is not None
    assert found.last_due_at > found.seen_at


def test_how_many_it_ends_a_minute_is_not_known_at_once(site: Site, run: Run) -> None:
    site.host.do(SUCCEED, "lead-1")

    assert outcome(site, run).per_minute is None


def test_how_many_it_ends_a_minute_is_known_after_a_while(site: Site, run: Run) -> None:
    earlier = began_earlier(site, run, minutes=60)
    site.host.do(SUCCEED, "lead-1")

    assert outcome(site, earlier).per_minute == pytest.approx(0.1)


def test_only_the_workspaces_of_the_run_are_counted(site: Site) -> None:
    site.host.add_client("client-2")
    site.host.add_leads("lead-1")
    site.host.add_leads("lead-2", clientId="client-2")
    first = site.whole_run(client_ids=["client-2"])
    site.whole_run(client_ids=["client-1"])

    assert outcome(site, first).jobs["PENDING"] == 1


def test_a_backfill_without_jobs_has_none(site: Site) -> None:
    site.host.add_leads("lead-1")
    run = site.whole_run(backfill="message-rollups")

    with site.engine.begin() as connection:
        assert site.parts.backfills["message-rollups"].outcome(connection, {}, run.started_at) is None
