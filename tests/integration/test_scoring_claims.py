"""Claims: which jobs are claimed, by whom, and how they end. The host's runner follows the same protocol."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from integration.scoring import Desk
from integration.site import NOON

from backfill_tasks.scoring.claims import Claims, Result
from backfill_tasks.scoring.contract import Score


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def ahead(**distance: float) -> datetime:
    return now() + timedelta(**distance)


class TestClaiming:
    def test_a_claimed_job_looks_as_the_host_s_runner_leaves_it(self, desk: Desk) -> None:
        desk.add("lead-1", attempts=1)
        before = now()

        assert desk.claim(holder="backfill:me") == ["lead-1"]

        job = desk.job("lead-1")
        assert (job["status"], job["attempts"], job["lockedBy"], job["runAt"]) == ("RUNNING", 2, "backfill:me", NOON)
        assert before - timedelta(seconds=1) <= job["lockedAt"] == job["startedAt"] <= now()

    @pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "FAILED"])
    def test_only_pending_jobs_are_claimed(self, desk: Desk, status: str) -> None:
        desk.add("lead-1")
        desk.site.host.do('UPDATE "BackgroundJob" SET status = %s::"BackgroundJobStatus"', status)

        assert desk.claim() == []

    def test_jobs_of_the_host_are_never_claimed(self, desk: Desk) -> None:
        desk.add("lead-1", dedupeKey="lead_scoring:lead-1:m")
        desk.add("lead-2", type="CONVERSATION_SYNC")

        assert desk.claim() == []

    def test_a_job_without_attempts_left_is_not_claimed(self, desk: Desk) -> None:
        desk.add("lead-1", attempts=3, maxAttempts=3)

        assert desk.claim() == []

    def test_due_jobs_come_oldest_first(self, desk: Desk) -> None:
        desk.add("new", runAt=NOON + timedelta(hours=1))
        desk.add("old", runAt=NOON)

        assert desk.claim(1) == ["old"]

    def test_a_big_workspace_leaves_room_for_a_small_one(self, desk: Desk) -> None:
        desk.site.host.add_client("client-2")
        desk.add(*(f"big-{number}" for number in range(9)), runAt=NOON)
        desk.add("small-1", "small-2", client="client-2", runAt=NOON + timedelta(days=1))

        assert desk.claim(4) == ["big-0", "big-1", "small-1", "small-2"]

    def test_two_claims_share_no_job(self, desk: Desk, aside: ThreadPoolExecutor) -> None:
        desk.add(*(f"lead-{number:02}" for number in range(60)))

        claimed = [
            lead
            for found in aside.map(lambda number: desk.claim(10, holder=f"backfill:{number}"), range(6))
            for lead in found
        ]

        assert len(claimed) == len(set(claimed)) == 60

    def test_a_row_that_the_host_has_locked_is_skipped(self, desk: Desk) -> None:
        desk.add("lead-1", "lead-2")

        with desk.site.host.session() as other:
            other.execute('SELECT FROM "BackgroundJob" WHERE "leadId" = \'lead-1\' FOR UPDATE')
            claimed = desk.claim()

        assert claimed == ["lead-2"]


class TestReservedJobs:
    def test_a_job_that_is_due_for_the_host_tomorrow_is_claimed_at_once(self, desk: Desk) -> None:
        desk.add("lead-1", runAt=ahead(hours=24))

        assert desk.claim() == ["lead-1"]

    def test_due_jobs_go_first(self, desk: Desk) -> None:
        desk.add("reserved", runAt=ahead(hours=24))
        desk.add("due")

        assert desk.claim(1) == ["due"]

    def test_a_job_that_the_host_put_off_waits_until_it_is_due(self, desk: Desk) -> None:
        desk.add("lead-1", runAt=ahead(minutes=5), attempts=1, lastError="429 Too Many Requests")

        assert desk.claim() == []

    def test_a_failed_attempt_stays_out_of_the_host_s_queue_and_waits_for_its_backoff(self, desk: Desk) -> None:
        desk.add("lead-1", says="retry", runAt=ahead(hours=24))
        desk.start()
        desk.deliver()

        job = desk.job("lead-1")
        assert (job["status"], job["attempts"]) == ("PENDING", 1)
        assert job["runAt"] > ahead(hours=23)
        assert desk.claim() == []
        desk.site.host.do('UPDATE "BackgroundJob" SET "updatedAt" = "updatedAt" - interval \'4 s\'')
        assert desk.claim() == ["lead-1"]


class TestFinishing:
    def finish(self, desk: Desk, *results: Result, holder: str = "backfill:test") -> None:
        with desk.site.engine.begin() as connection:
            self.written = Claims("public", holder).finish(connection, results)

    def test_a_score_and_the_end_of_its_job_are_written_together(self, desk: Desk) -> None:
        desk.add("lead-1")
        desk.claim()

        self.finish(desk, Result("job-lead-1", "scored", Score(4, 3, 2, "x" * 600)))

        lead, job = desk.site.host.lead("lead-1"), desk.job("lead-1")
        assert (lead["fitScore"], lead["intentScore"], lead["overallScore"]) == (4, 3, 2)
        assert lead["scoreReasoning"] == "x" * 500
        assert lead["updatedAt"] == NOON
        assert job["finishedAt"] == lead["scoredAt"]
        assert (job["status"], job["lockedAt"], job["lockedBy"], job["lastError"]) == ("SUCCEEDED", None, None, None)

    @pytest.mark.parametrize(
        "change",
        [
            "status = 'PENDING', \"lockedBy\" = NULL",
            "status = 'SUCCEEDED', \"lockedBy\" = NULL",
            "status = 'FAILED', \"lockedBy\" = NULL",
            "\"lockedBy\" = 'cron'",
        ],
    )
    def test_a_job_that_was_taken_away_is_not_overwritten(self, desk: Desk, change: str) -> None:
        desk.add("lead-1")
        desk.claim()
        desk.site.host.do(f'UPDATE "BackgroundJob" SET {change}')
        before = desk.site.host.versions()

        self.finish(desk, Result("job-lead-1", "scored", Score(4, 4, 4, "late")))

        assert desk.site.host.versions() == before
        assert self.written.lost == 1

    def test_a_deleted_job_is_lost_and_harms_no_other(self, desk: Desk) -> None:
        desk.add("lead-1", "lead-2")
        desk.claim()
        desk.site.host.do('DELETE FROM "BackgroundJob" WHERE "leadId" = \'lead-1\'')

        self.finish(desk, *(Result(f"job-lead-{n}", "scored", Score(3, 3, 3, "")) for n in (1, 2)))

        assert (self.written.scored, self.written.lost) == (1, 1)
        assert desk.site.host.lead("lead-1")["overallScore"] is None

    def test_a_lead_of_another_workspace_is_left_as_it_is(self, desk: Desk) -> None:
        desk.site.host.add_client("client-2")
        desk.add("lead-1")
        desk.claim()
        desk.site.host.do('UPDATE "Lead" SET "clientId" = \'client-2\'')

        self.finish(desk, Result("job-lead-1", "scored", Score(3, 3, 3, "")))

        assert desk.site.host.lead("lead-1")["overallScore"] is None
        assert desk.job("lead-1")["status"] == "SUCCEEDED"

    def test_a_failed_attempt_waits_for_the_host_s_backoff(self, desk: Desk) -> None:
        desk.add("lead-1", attempts=1)
        desk.claim()
        before = now()

        self.finish(desk, Result("job-lead-1", "failed", error="503"))

        job = desk.job("lead-1")
        assert (job["status"], job["attempts"], job["lastError"]) == ("PENDING", 2, "backfill: 503")
        assert timedelta(seconds=3.9) < job["runAt"] - before < timedelta(seconds=7)
        assert (job["lockedAt"], job["lockedBy"], job["finishedAt"]) == (None, None, None)

    def test_a_server_s_wait_is_kept_to_at_most_15_minutes(self, desk: Desk) -> None:
        desk.add("lead-1", "lead-2")
        desk.claim()

        self.finish(
            desk,
            Result("job-lead-1", "failed", error="429", wait=100.0),
            Result("job-lead-2", "failed", error="429", wait=86_400.0),
        )

        assert ahead(seconds=90) < desk.job("lead-1")["runAt"] < ahead(seconds=101)
        assert desk.job("lead-2")["runAt"] <= ahead(minutes=15)

    def test_the_last_attempt_fails_the_job(self, desk: Desk) -> None:
        desk.add("lead-1", attempts=2, maxAttempts=3)
        desk.claim()

        self.finish(desk, Result("job-lead-1", "failed", error="503"))

        job = desk.job("lead-1")
        assert (job["status"], job["attempts"], job["lastError"]) == ("FAILED", 3, "backfill: 503")
        assert job["finishedAt"] is not None

    def test_a_job_that_was_not_tried_gets_its_attempt_back(self, desk: Desk) -> None:
        desk.add("lead-1", attempts=1, runAt=NOON, lastError="an earlier error")
        desk.claim()

        self.finish(desk, Result("job-lead-1", "back"))

        job = desk.job("lead-1")
        assert (job["status"], job["attempts"], job["runAt"], job["lastError"]) == (
            "PENDING",
            1,
            NOON,
            "an earlier error",
        )
        assert (job["lockedAt"], job["lockedBy"], job["startedAt"]) == (None, None, None)


class TestHeartbeat:
    def test_a_renewal_moves_the_lock_s_time_and_tells_which_jobs_are_gone(self, desk: Desk) -> None:
        desk.add("lead-1", "lead-2")
        desk.claim()
        desk.site.host.do('UPDATE "BackgroundJob" SET "lockedAt" = %s', NOON)
        desk.site.host.do('UPDATE "BackgroundJob" SET "lockedBy" = \'cron\' WHERE "leadId" = \'lead-2\'')

        with desk.site.engine.begin() as connection:
            held = Claims("public", "backfill:test").renew(connection, ["job-lead-1", "job-lead-2"])

        assert held == {"job-lead-1"}
        assert desk.job("lead-1")["lockedAt"] > ahead(seconds=-60)
        assert desk.job("lead-2")["lockedAt"] == NOON


class TestReleasing:
    def age(self, desk: Desk, seconds: float, *, holder: str = "backfill:gone") -> None:
        desk.site.host.do(
            'UPDATE "BackgroundJob" SET "lockedAt" = %s, "lockedBy" = %s', ahead(seconds=-seconds), holder
        )

    def test_a_lock_of_ours_is_released_after_three_missed_renewals(self, desk: Desk) -> None:
        desk.add("lead-1", runAt=NOON)
        desk.claim()
        self.age(desk, 40)
        assert desk.release() == []
        self.age(desk, 50)

        assert desk.release() == ["job-lead-1"]

        job = desk.job("lead-1")
        assert (job["status"], job["attempts"], job["runAt"]) == ("PENDING", 1, NOON)
        assert (job["lockedAt"], job["lockedBy"], job["startedAt"]) == (None, None, None)

    def test_the_host_s_own_lock_is_released_after_ten_minutes(self, desk: Desk) -> None:
        desk.add("lead-1")
        desk.claim()
        self.age(desk, 500, holder="cron")
        assert desk.release() == []
        self.age(desk, 700, holder="cron")

        assert desk.release() == ["job-lead-1"]

    def test_a_job_of_the_host_is_not_released(self, desk: Desk) -> None:
        desk.add("lead-1", status="RUNNING", dedupeKey="lead_scoring:lead-1:m")
        self.age(desk, 100_000)

        assert desk.release() == []

    def test_a_released_job_without_attempts_left_fails(self, desk: Desk) -> None:
        desk.add("lead-1", attempts=2, maxAttempts=3)
        desk.claim()
        self.age(desk, 50)

        desk.release()

        assert (desk.job("lead-1")["status"], desk.job("lead-1")["attempts"]) == ("FAILED", 3)

    def test_a_pending_job_whose_attempts_the_host_used_up_fails(self, desk: Desk) -> None:
        desk.add("lead-1", attempts=3, maxAttempts=3, lastError="Released stale RUNNING lock")

        assert desk.release() == ["job-lead-1"]
        assert desk.job("lead-1")["status"] == "FAILED"
