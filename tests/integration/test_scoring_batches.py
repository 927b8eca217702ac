"""Batches: what a scorer is given, what becomes of its answers, and how a slot goes on."""

import json
import time
from typing import Any

import pytest
from integration.scoring import BOUND_COST, PAID, Desk, Obedient
from integration.site import NOON, Site

from backfill_tasks.errors import ConfigurationError, HostError, PluginError, UsageError
from backfill_tasks.scoring.contract import Line, Usage
from backfill_tasks.scoring.parameters import Parameters
from backfill_tasks.scoring.reading import questions
from backfill_tasks.scoring.writing import Writer


def scores(desk: Desk) -> dict[str, Any]:
    return {row["id"]: row["overallScore"] for row in desk.site.host.rows('SELECT * FROM "Lead"')}


def statuses(desk: Desk) -> dict[str, str]:
    return {row["leadId"]: row["status"] for row in desk.site.host.rows('SELECT * FROM "BackgroundJob"')}


class TestResults:
    def test_every_lead_gets_its_own_score(self, desk: Desk) -> None:
        for number in range(1, 5):
            desk.add(f"lead-{number}", says=f"score {number}")

        session = desk.until_done()

        assert scores(desk) == {"lead-1": 1, "lead-2": 2, "lead-3": 3, "lead-4": 4}
        assert (session.state, session.written.scored) == ("complete", 4)

    @pytest.mark.parametrize(("says", "overall"), [("score 9", 4), ("score -3", 1)])
    def test_a_score_out_of_range_is_clamped(self, desk: Desk, says: str, overall: int) -> None:
        desk.add("lead-1", says=says)

        desk.until_done()

        assert scores(desk) == {"lead-1": overall}

    def test_a_disqualified_lead_is_scored_as_the_host_does_and_the_scorer_is_not_asked(self, desk: Desk) -> None:
        desk.add("lead-1")
        desk.site.host.do('UPDATE "Lead" SET "sentimentTag" = \'Opt Out\'')

        desk.until_done()

        lead = desk.site.host.lead("lead-1")
        assert (lead["fitScore"], lead["intentScore"], lead["overallScore"]) == (1, 1, 1)
        assert lead["scoreReasoning"] == "Disqualified: Opt Out"
        assert desk.scorer.seen == []

    def test_a_lead_that_a_page_has_disqualified_stays_as_the_page_left_it(self, desk: Desk) -> None:
        desk.add("lead-1")
        desk.site.host.do('UPDATE "Lead" SET "sentimentTag" = \'Opt Out\'')
        desk.site.whole_run()
        before = desk.site.host.lead("lead-1")

        session = desk.until_done()

        assert before["scoreReasoning"] == "Automatically disqualified: Opt Out"
        assert desk.site.host.lead("lead-1") == before
        assert (session.state, session.written.unchanged) == ("complete", 1)

    @pytest.mark.parametrize(
        "change",
        [
            'UPDATE "Lead" SET "clientId" = \'client-2\'',
            "UPDATE \"Message\" SET direction = 'outbound'",
        ],
    )
    def test_a_lead_that_takes_no_part_is_a_success_that_changes_nothing(self, desk: Desk, change: str) -> None:
        desk.site.host.add_client("client-2")
        desk.add("lead-1")
        desk.site.host.do(change)

        session = desk.until_done()

        assert (scores(desk), statuses(desk)) == ({"lead-1": None}, {"lead-1": "SUCCEEDED"})
        assert (session.written.unchanged, desk.scorer.seen) == (1, [])

    def test_an_answer_without_a_score_leaves_the_lead_unscored(self, desk: Desk) -> None:
        desk.add("lead-1", says="no score")

        desk.until_done()

        assert (scores(desk), statuses(desk)) == ({"lead-1": None}, {"lead-1": "SUCCEEDED"})

    def test_a_failure_of_one_lead_harms_no_other(self, desk: Desk) -> None:
        desk.add("lead-1", says="crash")
        desk.add("lead-2")

        desk.start()
        desk.deliver()

        assert scores(desk) == {"lead-1": None, "lead-2": 3}
        assert desk.job("lead-1")["lastError"] == "backfill: the scorer failed: ValueError"

    def test_a_row_that_the_host_refuses_fails_its_own_job_only(self, desk: Desk) -> None:
        desk.add(*(f"lead-{number}" for number in range(5)))
        host = desk.site.host
        host.do('ALTER TABLE "Lead" ADD CONSTRAINT odd CHECK (id <> \'lead-3\' OR "overallScore" IS NULL)')
        try:
            desk.start()
            desk.deliver()
        finally:
            host.do('ALTER TABLE "Lead" DROP CONSTRAINT odd')

        assert [lead for lead, score in scores(desk).items() if score is None] == ["lead-3"]
        assert desk.job("lead-3")["status"] == "PENDING"
        assert '"odd"' in desk.job("lead-3")["lastError"]

    def test_a_reasoning_that_no_database_takes_is_stored_without_those_characters(self, desk: Desk) -> None:
        desk.add("lead-1")
        desk.scorer._usage = Usage()  # noqa: SLF001
        original = desk.scorer._obey  # noqa: SLF001

        async def odd(said: str) -> Any:
            found: Any = await original(said)
            return type(found)(3, 3, 3, "a\x00b\ud800c")

        desk.scorer._obey = odd  # type: ignore[method-assign]  # noqa: SLF001
        desk.until_done()

        assert desk.site.host.lead("lead-1")["scoreReasoning"] == "ab?c"


class TestConversations:
    def test_a_scorer_gets_the_workspace_the_lead_and_the_messages_in_order(self, desk: Desk) -> None:
        desk.add("lead-1", says="second")
        host = desk.site.host
        host.do(
            'INSERT INTO "WorkspaceSettings" (id, "clientId", "companyName", "idealCustomerProfile",'
            ' "serviceDescription", "qualificationQuestions", "updatedAt")'
            " VALUES ('w', 'client-1', 'Acme', 'Plumbers', 'Pipes', '[\"How many?\"]', now())"
        )
        host.do("UPDATE \"Lead\" SET \"companyName\" = 'Rohr AG', industry = 'Trade', \"employeeHeadcount\" = '11-50'")
        host.add_message("first", "lead-1", body="Hi ", direction="outbound", sentAt=NOON.replace(hour=1))

        desk.until_done()

        (seen,) = desk.scorer.seen
        assert seen.lines == (Line(inbound=False, text="Hi "), Line(inbound=True, text="second"))
        assert seen.transcript == "Us: Hi\n\nLead: second"
        assert seen.workspace.qualification_questions == ("How many?",)
        assert (seen.workspace.company_name, seen.company_name, seen.industry) == ("Acme", "Rohr AG", "Trade")

    def test_a_scorer_gets_the_host_s_overrides_of_its_prompt(self, own_site: Site) -> None:
        desk = Desk(own_site, Obedient())
        desk.add("lead-1")
        columns = '"promptKey" text, role text, index integer, "baseContentHash" text, content text'
        own_site.host.do(f'CREATE TABLE public."PromptOverride" ("clientId" text, {columns})')
        own_site.host.do(
            'INSERT INTO public."PromptOverride" VALUES (%s, %s, %s, 0, %s, %s)',
            *("client-1", "lead_scoring.score.v1", "system", "hash", "Ours"),
        )

        desk.until_done()

        assert [each.content for each in desk.scorer.seen[0].workspace.prompt_overrides] == ["Ours"]

    def test_only_the_oldest_60_messages_are_read(self, desk: Desk) -> None:
        desk.add("lead-1", says="first")
        for number in range(70):
            sent = NOON.replace(hour=13, minute=number % 60, second=number // 60)
            desk.site.host.add_message(f"m-{number:02}", "lead-1", body=f"{number}", sentAt=sent)

        desk.until_done()

        assert len(desk.scorer.seen[0].lines) == 60
        assert desk.scorer.seen[0].lines[0].text == "first"

    def test_of_long_messages_the_last_24_000_characters_are_read(self, desk: Desk) -> None:
        desk.add("lead-1", says="a" * 30_000)
        desk.site.host.add_message("later", "lead-1", body="b" * 20_000, sentAt=NOON.replace(hour=13))

        desk.until_done()

        (seen,) = desk.scorer.seen
        assert [len(line.text) for line in seen.lines] == [4_000, 20_000]
        assert len(seen.transcript) <= 24_000

    @pytest.mark.parametrize(
        ("stored", "expected"),
        [
            (None, ()),
            ("", ()),
            ('["One?", " Two? "]', ("One?", "Two?")),
            ('[{"question": "One?"}, {}]', ("One?",)),
            ("One?\n\nTwo?", ("One?", "Two?")),
            ('"One?"', ("One?",)),
        ],
    )
    def test_questions_may_be_json_or_plain_text(self, stored: str | None, expected: tuple[str, ...]) -> None:
        assert questions(stored) == expected


class TestConcurrency:
    def test_at_most_so_many_requests_are_in_flight_at_once(self, desk: Desk) -> None:
        desk.add(*(f"lead-{number}" for number in range(20)))

        desk.until_done(concurrency=4)

        assert desk.scorer.most_at_once == 4

    def test_a_job_that_is_taken_away_meanwhile_is_dropped(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("backfill_tasks.scoring.batch.BEAT_SECONDS", 0.05)
        monkeypatch.setattr("backfill_tasks.scoring.batch.RENEW_SECONDS", 0.0)
        desk.add("lead-1", says="hang")
        desk.add("lead-2")
        desk.scorer.before = lambda _: desk.site.host.do(
            'UPDATE "BackgroundJob" SET "lockedBy" = \'cron\' WHERE "leadId" = \'lead-1\''
        )
        desk.start()

        step = desk.deliver()

        assert (step.written.scored, step.written.lost) == (1, 0)
        assert desk.job("lead-1")["lockedBy"] == "cron"

    def test_a_stopped_session_starts_no_further_request(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("backfill_tasks.scoring.batch.BEAT_SECONDS", 0.02)
        desk.add(*(f"lead-{number}" for number in range(50)))
        desk.start(concurrency=1)

        def stop(_: object) -> None:
            if len(desk.scorer.seen) == 1:
                desk.work.stop()
            time.sleep(0.05)

        desk.scorer.before = stop
        step = desk.deliver()

        assert 0 < step.written.scored < 50
        assert step.written.scored + step.written.given_back == 50
        assert set(statuses(desk).values()) == {"SUCCEEDED", "PENDING"}
        assert [row["attempts"] for row in desk.site.host.rows('SELECT attempts FROM "BackgroundJob"')].count(0) > 0


class TestFailures:
    def test_a_refusal_stops_the_session_and_uses_up_no_attempt(self, desk: Desk) -> None:
        desk.add("lead-1", says="refuse")
        session = desk.start()

        step = desk.deliver()

        assert step.outcome == "ended"
        assert (desk.job("lead-1")["status"], desk.job("lead-1")["attempts"]) == ("PENDING", 0)
        found = desk.work.read(session)
        assert (found.state, found.reason) == ("stopped", "the scorer refuses every request: 401 Unauthorized")
        assert desk.waiting == []

    def test_a_provider_that_is_down_uses_up_few_attempts(self, desk: Desk) -> None:
        desk.add(*(f"lead-{number:03}" for number in range(200)), says="retry")
        desk.start(concurrency=8)

        first = desk.deliver()
        second = desk.deliver()

        assert first.written.retried <= 16 + 8
        assert first.written.given_back == 200 - first.written.retried
        assert (second.written.retried, second.written.given_back) == (1, 0)
        assert [delay for _, delay in desk.waiting] == [4.0]

    def test_once_the_provider_is_back_batches_are_whole_again(self, desk: Desk) -> None:
        desk.add(*(f"bad-{number:03}" for number in range(16)), says="retry")
        desk.start()
        desk.deliver()
        desk.add(*(f"good-{number}" for number in range(30)))

        assert desk.deliver().written.scored == 1
        assert desk.deliver().written.scored == 29

    def test_a_server_s_wait_delays_the_next_batch(self, desk: Desk) -> None:
        desk.add("lead-1", says="retry after 7")
        desk.add("lead-2")
        desk.start()

        desk.deliver()

        assert [delay for _, delay in desk.waiting] == [7.0]

    def test_a_scorer_without_room_uses_up_no_attempt_and_delays_the_next_batch(self, desk: Desk) -> None:
        desk.add(*(f"lead-{number}" for number in range(9)), says="postpone 3")
        desk.start(concurrency=2)

        step = desk.deliver()

        assert (step.written.given_back, step.written.retried) == (9, 0)
        assert {row["attempts"] for row in desk.site.host.rows('SELECT attempts FROM "BackgroundJob"')} == {0}
        assert [delay for _, delay in desk.waiting] == [3.0]

    def test_an_unknown_scorer_is_refused_before_anything_is_written(self, desk: Desk) -> None:
        work = desk.work.__class__(desk.site.engine, "public", {}, desk._send)  # noqa: SLF001

        with pytest.raises((PluginError, KeyError)):
            work.start(Parameters("nobody"))

        assert desk.site.host.rows("SELECT FROM backfill.scoring") == []

    def test_a_role_that_may_not_read_the_workspaces_is_refused(self, own_site: Site) -> None:
        own_site.host.do('DROP TABLE "WorkspaceSettings"')

        with pytest.raises(HostError, match='GRANT SELECT ON "Lead", "Message", "WorkspaceSettings"'):
            Desk(own_site, Obedient()).start()

        assert own_site.host.rows("SELECT FROM backfill.scoring") == []

    def test_a_model_without_a_price_is_refused(self, site: Site) -> None:
        desk = Desk(site, Obedient(model="unheard-of"))

        with pytest.raises(ConfigurationError, match="'unheard-of' has no price"):
            desk.start(max_spend=1_000_000)

    def test_a_scorer_that_costs_money_needs_a_budget(self, site: Site) -> None:
        with pytest.raises(UsageError, match="--max-spend"):
            Desk(site, Obedient(model=PAID)).start()


class TestTheChain:
    def test_a_second_session_is_refused_while_one_runs(self, desk: Desk) -> None:
        desk.start()

        with pytest.raises(UsageError, match="running already"):
            desk.start()

    def test_duplicate_delivery_is_a_no_op(self, desk: Desk) -> None:
        desk.add("lead-1")
        desk.start()
        message, _ = desk.waiting[0]
        desk.deliver()

        assert desk.work.step(message).outcome == "duplicate"
        assert len(desk.waiting) == 1

    def test_without_claimable_jobs_a_slot_waits_and_says_why(self, desk: Desk) -> None:
        session = desk.start()

        step = desk.deliver()

        assert (step.outcome, [delay for _, delay in desk.waiting]) == ("waits", [2.0])
        assert desk.work.read(session).reasons == ("no job of ours can be claimed now",)

    def test_until_done_waits_for_a_job_that_the_host_s_runner_holds(self, desk: Desk) -> None:
        desk.add("lead-1")
        desk.site.host.do('UPDATE "BackgroundJob" SET status = \'RUNNING\', "lockedBy" = \'cron\', "lockedAt" = now()')
        desk.start(until_done=True)

        assert desk.deliver().outcome == "waits"
        desk.site.host.do("UPDATE \"BackgroundJob\" SET status = 'SUCCEEDED'")
        assert desk.deliver().outcome == "ended"

    def test_a_slot_that_lost_its_message_is_reseeded_and_the_old_chain_is_dead(self, desk: Desk) -> None:
        session = desk.start()
        lost, _ = desk.waiting.pop()
        desk.age_slots()

        assert desk.work.watch_over(lambda: [lost.task_id]) == []
        (new,) = desk.work.watch_over(list)

        assert (new.session, new.generation, new.batch) == (session, 2, 1)
        assert desk.work.step(lost).outcome == "duplicate"
        assert desk.work.step(new).outcome == "waits"

    def test_a_slot_that_waits_is_not_reseeded(self, desk: Desk) -> None:
        desk.start()
        desk.site.host.do(
            "UPDATE backfill.scoring_slot SET beat_at = now() - interval '1 min', held_until = now() + interval '1 min'"
        )

        assert desk.work.watch_over(list) == []

    def test_no_personal_data_reaches_the_ledger(self, desk: Desk) -> None:
        desk.add("lead-1", says="crash my@address.example")
        desk.start()
        desk.deliver()

        rows = desk.site.host.rows(
            "SELECT to_jsonb(each) AS row FROM backfill.scoring AS each"
            " UNION ALL SELECT to_jsonb(each) FROM backfill.scoring_slot AS each"
        )
        assert "address.example" not in json.dumps(rows, default=str)
        assert "address.example" not in (desk.job("lead-1")["lastError"] or "")


class TestBudget:
    def paid(self, site: Site, *, usage: Usage | None = None) -> Desk:
        return Desk(site, Obedient(model=PAID, usage=usage or Usage(500, 0)))

    def test_spend_is_settled_to_what_requests_really_used(self, site: Site) -> None:
        desk = self.paid(site)
        desk.add("lead-1", "lead-2")

        session = desk.until_done(max_spend=1_000)

        assert (session.spent, session.reserved, session.requests) == (50, 0, 2)
        assert (session.input_tokens, session.unknown_spent) == (1_000, 0)

    def test_only_requests_that_fit_are_sent(self, site: Site) -> None:
        desk = self.paid(site, usage=Usage(1_000, 0))
        desk.add(*(f"lead-{number}" for number in range(10)))

        session = desk.until_done(max_spend=4 * BOUND_COST + 49)

        assert (len(desk.scorer.seen), session.state) == (4, "exhausted")
        assert session.spent == 4 * BOUND_COST
        assert (
            sorted(row["attempts"] for row in site.host.rows('SELECT attempts FROM "BackgroundJob"'))
            == [0] * 6 + [1] * 4
        )

    def test_a_failed_request_of_unknown_usage_counts_with_its_upper_bound(self, site: Site) -> None:
        desk = self.paid(site)
        desk.add("lead-1", says="retry")
        session = desk.start(max_spend=1_000)
        desk.deliver()

        found = desk.work.read(session)
        assert (found.spent, found.unknown_spent, found.reserved) == (BOUND_COST, BOUND_COST, 0)

    def test_a_request_that_was_not_sent_costs_nothing(self, site: Site) -> None:
        desk = self.paid(site)
        desk.add("lead-1", says="refuse")
        desk.add("lead-2")
        session = desk.start(max_spend=1_000, concurrency=1)
        desk.deliver()

        assert desk.work.read(session).spent == 0

    def test_a_killed_worker_s_reservation_stays_counted(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        desk = self.paid(site)
        desk.add("lead-1")
        session = desk.start(max_spend=BOUND_COST)
        with monkeypatch.context() as killed:
            killed.setattr(Writer, "write", None)
            with pytest.raises(TypeError):
                desk.deliver()
        desk.age_slots()
        site.host.do('UPDATE "BackgroundJob" SET "lockedAt" = "lockedAt" - interval \'1 hour\'')

        assert desk.work.read(session).unknown_reserved == BOUND_COST
        desk.work.watch_over(list)
        step = desk.deliver()

        assert (step.outcome, step.reason) == ("ended", "the budget doesn't cover another request")
        assert len(desk.scorer.seen) == 1

    def test_concurrent_reservations_never_exceed_the_budget(self, site: Site, aside: Any) -> None:
        from backfill_tasks.scoring import spend  # noqa: PLC0415
        from backfill_tasks.scoring.message import ScoreMessage  # noqa: PLC0415

        desk = self.paid(site)
        session = desk.start(max_spend=1_000)

        def reserve(number: int) -> int:
            with site.engine.begin() as connection:
                return spend.reserve(connection, ScoreMessage(session, number, 1, 1), PAID, [7] * 10)

        fitted = sum(aside.map(reserve, range(1, 41)))

        assert fitted == 142
        assert desk.work.read(session).reserved == 142 * 7
