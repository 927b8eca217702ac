"""Times in the host's rows that Python can't represent: infinite ones, and years before 1 or after 9999."""

import json

import pytest
from integration.site import STATEMENT_MS, Site

from backfill_tasks.backfills.lead_scoring.queue import LiveQueueAge
from backfill_tasks.cli.render.road import road_lines
from backfill_tasks.engine.admission.indicators import Reading
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.engine.road import Road
from backfill_tasks.engine.verification import Verifier
from backfill_tasks.scoring.jobs import KEY_PREFIX

PAST, FUTURE = ("-infinity", "4713-01-01 BC"), ("infinity", "294276-12-31")

#: Overwrites all time columns that a backfill reads, except the outbound ones: no lead has an outbound message.
SPOIL = """
UPDATE "Lead" SET "createdAt" = {time}, "updatedAt" = {time}, "scoredAt" = {time}, "lastInboundAt" = {time},
  "lastMessageAt" = {time} WHERE id <> 'lead-0';
UPDATE "Message" SET "sentAt" = {time}, "createdAt" = {time} WHERE "leadId" <> 'lead-0';
UPDATE "BackgroundJob" SET "runAt" = {time}, "createdAt" = {time}, "updatedAt" = {time}, "lockedAt" = {time},
  "startedAt" = {time}, "finishedAt" = {time};
"""


def spoil(site: Site, time: str) -> None:
    for statement in SPOIL.format(time=f"timestamp '{time}'").split(";\n"):
        if statement.strip():
            site.host.do(statement)


def outcome(site: Site, run: Run) -> Outcome:
    with site.engine.begin() as connection:
        found = site.parts.backfills[run.parameters.backfill].outcome(connection, run)
    assert found is not None
    json.dumps(found.as_json(0), allow_nan=False)
    backfill = site.parts.backfills[run.parameters.backfill]
    assert road_lines(backfill, run, Road.of(backfill, run, found), None)
    return found


@pytest.fixture
def run(site: Site) -> Run:
    """Return a run that has enqueued the jobs of three leads."""
    site.host.add_leads("lead-0", "lead-1", "lead-2")
    return site.whole_run()


@pytest.mark.parametrize("time", FUTURE)
class TestJobNeverDue:
    def test_job_is_counted_separately_and_time_left_is_unknown(self, site: Site, run: Run, time: str) -> None:
        site.host.do("""UPDATE "BackgroundJob" SET "runAt" = %s WHERE "leadId" = 'lead-1'""", time)

        found = outcome(site, run)

        assert (found.jobs["PENDING"], found.never_due) == (3, 1)
        assert found.last_due_at is not None
        assert found.last_due_at <= found.seen_at
        assert found.seconds_left(0) is None

    @pytest.mark.usefixtures("run")
    def test_job_takes_up_no_room(self, site: Site, time: str) -> None:
        site.host.do('UPDATE "BackgroundJob" SET "runAt" = %s', time)

        with site.engine.begin() as connection:
            assert site.parts.backfills["lead-scoring"].pending(connection, 12) == 0

    def test_live_job_does_not_wait(self, site: Site, time: str) -> None:
        site.host.add_leads("lead-1")
        site.host.add_job("lead-1", "PENDING", dedupeKey="live", runAt=time)

        assert live_queue(site).value == "none waits"


@pytest.mark.parametrize("time", PAST)
class TestJobAlwaysDue:
    def test_job_has_been_due_since_1970(self, site: Site, run: Run, time: str) -> None:
        site.host.do("""UPDATE "BackgroundJob" SET "runAt" = %s WHERE "leadId" = 'lead-1'""", time)

        found = outcome(site, run)

        assert found.oldest_due_at is not None
        assert found.oldest_due_at.year == 1970
        assert found.never_due == 0

    def test_live_job_postpones_pages(self, site: Site, time: str) -> None:
        site.host.add_leads("lead-1")
        site.host.add_job("lead-1", "PENDING", dedupeKey="live", runAt=time)

        reading = live_queue(site)

        assert reading.answer == "wait"
        assert "a live job has waited for" in reading.reason

    def test_thousand_own_jobs_postpone_pages(self, site: Site, time: str) -> None:
        leads = [f"lead-{number:04}" for number in range(1_000)]
        site.host.add_leads(*leads)
        for lead in leads:
            site.host.add_job(lead, "PENDING", runAt=time)

        assert "1,000 of our own jobs" in live_queue(site).reason


@pytest.mark.parametrize("time", [*PAST, *FUTURE])
class TestEveryTimeColumn:
    @pytest.mark.parametrize("backfill", ["lead-scoring", "message-rollups"])
    def test_run_is_complete_and_clean(self, site: Site, time: str, backfill: str) -> None:
        site.host.add_leads("lead-0", "lead-1", "lead-2")
        site.host.add_job("lead-1", "SUCCEEDED")
        spoil(site, time)

        run = site.whole_run(backfill=backfill)

        assert run.state == "complete"
        assert site.verify(run.id).clean
        if backfill == "lead-scoring":
            assert Verifier(site.engine, site.parts.backfills[backfill], STATEMENT_MS, full=True).verify(run).clean

    def test_outcome_can_be_counted(self, site: Site, run: Run, time: str) -> None:
        spoil(site, time)
        site.host.do("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED' WHERE "leadId" = 'lead-1'""")
        site.host.do("UPDATE backfill.run SET started_at = started_at - interval '1 hour'")

        found = outcome(site, site.read(run.id))

        assert found.jobs == {"PENDING": 2, "RUNNING": 0, "SUCCEEDED": 1, "FAILED": 0}
        assert found.per_minute == 0

    def test_lead_without_a_job_is_missing(self, site: Site, run: Run, time: str) -> None:
        site.host.do("""DELETE FROM "BackgroundJob" WHERE "leadId" = 'lead-1'""")
        spoil(site, time)

        assert site.verify(run.id).missing == ("lead-1",)


def live_queue(site: Site) -> Reading:
    with site.engine.begin() as connection:
        (reading,) = site.parts.pressure.readings(connection, [LiveQueueAge("public", KEY_PREFIX, 180)])
    return reading
