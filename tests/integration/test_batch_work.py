"""`backfill work --scorer openai-batch`: a slot's turns submit, poll and collect, and hold the jobs for a day."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from integration.scoring import Desk
from integration.site import Site
from scoring.batch_server import BatchServer, answered, dropped, expired, refused, serving_batches

from backfill_tasks import settings
from backfill_tasks.errors import UsageError
from backfill_tasks.scoring.openai_batch import OpenAIBatch
from backfill_tasks.scoring.parameters import Parameters

LEADS = tuple(f"lead-{number}" for number in range(6))

#: More than six requests' upper bounds.
PLENTY = 1_000_000


@pytest.fixture
def provider() -> Iterator[BatchServer]:
    with serving_batches() as made:
        yield made


@pytest.fixture
def scorer(provider: BatchServer) -> OpenAIBatch:
    variables = {"OPENAI_API_KEY": f"key-{secrets.token_hex(8)}", "OPENAI_BASE_URL": provider.url}
    return OpenAIBatch(settings.load(variables))


@pytest.fixture
def desk(site: Site, scorer: OpenAIBatch) -> Desk:
    return Desk(site, scorer)


@pytest.fixture
def submitted(desk: Desk) -> str:
    """A session that has submitted all leads."""
    desk.add(*LEADS)
    session = desk.start(max_spend=PLENTY, until_done=True)
    desk.deliver()
    return session


def statuses(desk: Desk) -> set[str]:
    return {desk.job(lead)["status"] for lead in LEADS}


def overall(site: Site) -> list[Any]:
    return site.host.values('SELECT "overallScore" FROM "Lead" ORDER BY id')


def pass_time(site: Site, hours: float) -> None:
    """Make everything look so much older."""
    past = f"interval '{hours} hours'"
    site.host.do(f"UPDATE backfill.batch SET created_at = created_at - {past}, held_until = held_until - {past}")
    site.host.do(f"""UPDATE "BackgroundJob" SET "lockedAt" = "lockedAt" - {past} WHERE "lockedAt" IS NOT NULL""")


class TestTurns:
    def test_a_session_submits_waits_and_writes_the_scores(
        self, desk: Desk, site: Site, provider: BatchServer, submitted: str
    ) -> None:
        waits = desk.deliver()
        provider.work()
        desk.deliver_all()

        session = desk.work.read(submitted)
        assert waits.written.ended == 0
        assert overall(site) == [3] * len(LEADS)
        assert (session.state, session.written.scored, session.reserved) == ("complete", len(LEADS), 0)
        assert sorted(provider.paid) == sorted(f"job-{lead}" for lead in LEADS)
        assert provider.files == {}

    def test_the_status_says_what_is_at_the_provider(self, desk: Desk, provider: BatchServer, submitted: str) -> None:
        there = desk.work.read(submitted).at_provider
        provider.work()
        desk.deliver_all()

        after = desk.work.read(submitted).at_provider
        assert (there.batches, there.requests, there.cancelled) == (1, len(LEADS), 0)
        assert (after.batches, after.requests, after.ambiguous) == (0, 0, 0)

    def test_the_price_is_the_discounted_one(self, desk: Desk, provider: BatchServer, submitted: str) -> None:
        provider.work()
        desk.deliver_all()

        session = desk.work.read(submitted)
        full = 0.05 * session.input_tokens + 0.40 * session.output_tokens
        assert session.spent == pytest.approx(full / 2, abs=len(LEADS))

    @pytest.mark.usefixtures("submitted")
    def test_a_poll_comes_again_within_a_minute(self, desk: Desk, site: Site) -> None:
        delays = []
        for hours in (0.0, 0.2, 20.0):
            pass_time(site, hours)
            desk.deliver()
            delays.append(desk.waiting[-1][1])

        assert delays[0] == 2
        assert 2 < delays[1] < 60
        assert delays[2] == 60

    def test_a_comparison_is_refused(self, desk: Desk) -> None:
        with pytest.raises(UsageError, match="answers hours later"):
            desk.work.compare(Parameters("openai-batch", max_spend=PLENTY), 5)


class TestHolding:
    @pytest.mark.usefixtures("submitted")
    def test_nobody_else_gets_a_job_that_is_at_the_provider(self, desk: Desk, site: Site) -> None:
        pass_time(site, 24)

        assert desk.claim() == []
        assert desk.release() == []
        assert statuses(desk) == {"RUNNING"}

    @pytest.mark.usefixtures("submitted")
    def test_the_host_releases_jobs_one_by_one_if_all_our_workers_are_gone(self, site: Site) -> None:
        pass_time(site, 30 + 11 / 60)

        stale = (
            """SELECT count(*) FROM "BackgroundJob" WHERE "lockedAt" < now() AT TIME ZONE 'UTC' - interval '10 min'"""
        )
        assert site.host.values(stale) == [len(LEADS)]
        [seconds] = site.host.values(
            'SELECT extract(epoch FROM max("lockedAt") - min("lockedAt"))::int FROM "BackgroundJob"'
        )
        assert seconds == 6 * (len(LEADS) - 1)

    def test_results_for_jobs_that_the_host_has_taken_are_dropped(
        self, desk: Desk, site: Site, provider: BatchServer, submitted: str
    ) -> None:
        site.host.do("""UPDATE "BackgroundJob" SET "lockedBy" = 'host' WHERE "leadId" = 'lead-0'""")
        provider.work()
        desk.deliver()

        assert overall(site) == [None, 3, 3, 3, 3, 3]
        assert desk.work.read(submitted).written.lost == 1

    def test_a_submission_is_lost_once_its_jobs_are_released(self, desk: Desk, site: Site, submitted: str) -> None:
        pass_time(site, 31)
        desk.release()
        desk.deliver()

        session = desk.work.read(submitted)
        assert (session.at_provider.batches, session.at_provider.ambiguous) == (0, len(LEADS))
        assert session.spent == session.unknown_spent > 0
        assert statuses(desk) == {"PENDING"}

    @pytest.mark.usefixtures("submitted")
    def test_another_key_can_t_lose_a_submission(self, desk: Desk, provider: BatchServer) -> None:
        variables = {"OPENAI_API_KEY": "another", "OPENAI_BASE_URL": provider.url}
        desk.scorer = OpenAIBatch(settings.load(variables))
        step = desk.deliver()

        assert "another OPENAI_API_KEY" in (step.reason or "")
        assert statuses(desk) == {"RUNNING"}
        assert desk.waiting


class TestFailures:
    @pytest.mark.parametrize("verdict", ["expired", "cancelled", "failed"])
    def test_what_a_batch_has_not_done_goes_back_untried(
        self, desk: Desk, provider: BatchServer, submitted: str, verdict: str
    ) -> None:
        provider.verdict = verdict
        provider.fate = lambda number, request: [answered, expired, dropped][number % 3](number, request)
        provider.work()
        desk.deliver()

        jobs = [desk.job(lead) for lead in LEADS]
        assert [job["status"] for job in jobs] == ["SUCCEEDED", "PENDING", "PENDING"] * 2
        assert [job["attempts"] for job in jobs] == [1, 0, 0] * 2
        session = desk.work.read(submitted)
        assert (session.written.scored, session.written.given_back, session.reserved) == (2, 4, 0)

    def test_after_a_failed_batch_a_smaller_one_follows_later(
        self, desk: Desk, provider: BatchServer, submitted: str
    ) -> None:
        provider.verdict, provider.fate = "failed", dropped
        provider.work()
        desk.deliver()
        _, delay = desk.waiting[-1]
        desk.site.host.do("UPDATE backfill.scoring SET parameters = jsonb_set(parameters, '{batch}', '6')")
        desk.deliver()

        assert delay > 0
        assert desk.work.read(submitted).at_provider.requests == 3

    @pytest.mark.usefixtures("submitted")
    def test_a_refused_request_counts_as_an_attempt(self, desk: Desk, provider: BatchServer) -> None:
        provider.fate = refused
        provider.work()
        desk.deliver()

        job = desk.job("lead-0")
        assert (job["status"], job["attempts"]) == ("PENDING", 1)
        assert job["lastError"] == "backfill: the provider refused this request (400)"

    def test_a_lost_batch_is_ambiguous_and_costs_its_bound(
        self, desk: Desk, provider: BatchServer, submitted: str
    ) -> None:
        reserved = desk.work.read(submitted).reserved
        provider.batches.clear()
        desk.deliver()

        session = desk.work.read(submitted)
        assert session.at_provider.ambiguous == len(LEADS)
        assert session.spent == session.unknown_spent == reserved
        assert statuses(desk) == {"PENDING"}

    def test_results_that_the_provider_has_deleted_are_ambiguous(
        self, desk: Desk, provider: BatchServer, submitted: str
    ) -> None:
        provider.work()
        provider.files.clear()
        desk.deliver()

        session = desk.work.read(submitted)
        assert (session.at_provider.ambiguous, session.at_provider.batches) == (len(LEADS), 0)
        assert session.spent == session.unknown_spent > 0
        assert desk.job("lead-0")["lastError"] == "backfill: the provider has lost the batch's results"

    def test_a_submission_that_was_cut_off_is_made_anew(self, desk: Desk, site: Site, provider: BatchServer) -> None:
        desk.add(*LEADS)
        provider.failing["POST /batches"] = 503
        session = desk.start(max_spend=PLENTY, until_done=True)
        desk.deliver()
        held = statuses(desk)
        desk.deliver()
        back = statuses(desk)
        provider.failing.clear()
        desk.deliver()
        provider.work()
        desk.deliver_all()

        assert (held, back) == ({"RUNNING"}, {"PENDING"})
        assert overall(site) == [3] * len(LEADS)
        assert len(provider.paid) == len(LEADS)
        assert desk.work.read(session).unknown_spent == 0

    def test_a_provider_that_is_away_is_waited_for(self, desk: Desk, provider: BatchServer, submitted: str) -> None:
        provider.failing["GET /batches/ID"] = 503
        step = desk.deliver()

        assert "the provider can't be asked" in (step.reason or "")
        assert statuses(desk) == {"RUNNING"}
        assert desk.work.read(submitted).state == "running"

    def test_a_wrong_key_stops_the_session_and_gives_the_jobs_back(self, desk: Desk, provider: BatchServer) -> None:
        desk.add(*LEADS)
        provider.failing["POST /files"] = 401
        session = desk.start(max_spend=PLENTY)
        desk.deliver_all()

        found = desk.work.read(session)
        assert found.state == "stopped"
        assert "set OPENAI_API_KEY" in (found.reason or "")
        assert [desk.job(lead)["attempts"] for lead in LEADS] == [0] * len(LEADS)
        assert (statuses(desk), found.spent, found.reserved) == ({"PENDING"}, 0, 0)


class TestBudget:
    def test_only_as_many_requests_are_submitted_as_fit(self, desk: Desk) -> None:
        desk.add(*LEADS)
        bound = desk.site.host  # the bound of one request comes from a first session
        probe = desk.start(max_spend=PLENTY, batch=1)
        desk.deliver()
        one = desk.work.read(probe).reserved
        desk.work.stop()
        desk.deliver_all()
        assert bound.values("SELECT spent::int FROM backfill.scoring") == [0]

        session = desk.start(max_spend=2 * one)
        desk.deliver()

        found = desk.work.read(session)
        assert found.at_provider.requests == 2
        assert found.reserved <= 2 * one

    def test_the_session_waits_for_money_at_the_provider_and_ends_exhausted(
        self, desk: Desk, provider: BatchServer
    ) -> None:
        desk.add(*LEADS)
        session = desk.start(max_spend=500, parallel=2)
        desk.deliver()
        waits = desk.deliver()
        provider.work()
        for _ in range(60):
            if not desk.waiting:
                break
            desk.deliver()
            provider.work()

        found = desk.work.read(session)
        assert waits.reason == "the budget is reserved for requests at the provider"
        assert found.state == "exhausted"
        assert found.spent + found.reserved <= 500
        assert len(provider.paid) == found.written.scored < len(LEADS)

    def test_a_budget_below_one_request_submits_nothing(self, desk: Desk, provider: BatchServer) -> None:
        desk.add(*LEADS)
        session = desk.start(max_spend=1)
        desk.deliver_all()

        assert desk.work.read(session).state == "exhausted"
        assert provider.batches == {}
        assert statuses(desk) == {"PENDING"}


class TestStopping:
    def test_stopping_cancels_and_returns_what_the_provider_has_not_done(
        self, desk: Desk, provider: BatchServer, submitted: str
    ) -> None:
        desk.work.stop()
        cancelled = desk.work.read(submitted).at_provider.cancelled
        desk.deliver_all()

        found = desk.work.read(submitted)
        assert cancelled == 1
        assert (found.state, found.at_provider.batches, found.written.given_back) == ("stopped", 0, len(LEADS))
        assert [desk.job(lead)["attempts"] for lead in LEADS] == [0] * len(LEADS)
        assert (provider.paid, provider.files) == ([], {})

    def test_results_are_collected_after_the_session_has_ended(
        self, desk: Desk, site: Site, provider: BatchServer, submitted: str
    ) -> None:
        provider.work()
        desk.work.stop()
        desk.deliver_all()

        assert overall(site) == [3] * len(LEADS)
        assert desk.work.read(submitted).state == "stopped"

    def test_the_watchdog_reseeds_a_slot_of_an_ended_session(self, desk: Desk, submitted: str) -> None:
        desk.work.stop()
        desk.waiting.clear()
        desk.age_slots()

        reseeded = desk.work.watch_over(tuple)
        desk.deliver_all()
        desk.age_slots()

        assert len(reseeded) == 1
        assert desk.work.read(submitted).at_provider.batches == 0
        assert desk.work.watch_over(tuple) == []

    @pytest.mark.usefixtures("submitted")
    def test_a_new_session_leaves_the_old_one_s_jobs_alone(self, desk: Desk) -> None:
        desk.work.stop()
        desk.waiting.clear()
        desk.start(max_spend=PLENTY)
        step = desk.deliver()

        assert step.reason == "no job of ours can be claimed now"
        assert statuses(desk) == {"RUNNING"}


def test_a_duplicate_delivery_submits_nothing(desk: Desk, provider: BatchServer) -> None:
    desk.add(*LEADS)
    desk.start(max_spend=PLENTY)
    message, _ = desk.waiting[0]
    desk.deliver()

    assert desk.work.step(message).outcome == "duplicate"
    assert len(provider.batches) == 1
