"""`why` in single cases: who set a score, where a run stands, keys of other types, older ledgers, odd ids and times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from integration.plugins import Walk, make_table, marking
from integration.scoring import Desk
from integration.site import NOON, STATEMENT_MS, Site
from sqlalchemy import event

from backfill_tasks.cli.render.why import answer
from backfill_tasks.engine import ledger, why
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.why import Answer
from backfill_tasks.errors import UsageError


def ask(site: Site, item: str, backfill: Backfill | str = "lead-scoring") -> Answer:
    chosen = site.parts.backfills[backfill] if isinstance(backfill, str) else backfill
    with site.engine.begin() as connection:
        return why.why(connection, chosen, item, statement_ms=STATEMENT_MS)


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class TestScores:
    def test_score_of_a_session_here_names_the_session(self, desk: Desk) -> None:
        desk.site.host.add_leads("lead-1", inbound=0)
        desk.site.host.add_message("m", "lead-1", body="score 3", direction="inbound")
        desk.site.whole_run(score_here=True)
        session = desk.until_done()

        found = ask(desk.site, "lead-1").verdict

        assert (found.kind, session.id in found.said) == ("scored", True)
        assert "It has a score, 3 on " in found.said

    def test_score_within_our_job_s_time_is_the_runner_s(self, site: Site) -> None:
        site.host.add_leads("lead-1", overallScore=4, scoredAt=NOON + timedelta(seconds=2))
        done = {"startedAt": NOON, "finishedAt": NOON + timedelta(seconds=3)}
        site.host.add_job("lead-1", "SUCCEEDED", **done)

        assert ask(site, "lead-1").verdict.said.endswith("set by the host's runner, in our job.")

    def test_score_at_another_time_is_not_said_to_be_our_job_s(self, site: Site) -> None:
        site.host.add_leads("lead-1", overallScore=4, scoredAt=NOON + timedelta(hours=2))
        site.host.add_job("lead-1", "SUCCEEDED")

        assert ask(site, "lead-1").verdict.said.endswith("set by the host, not in our job.")

    def test_disqualified_lead_names_the_run_that_scored_it(self, site: Site) -> None:
        site.host.add_leads("lead-1", sentimentTag="Bounced")
        run = site.whole_run()

        found = ask(site, "lead-1")

        assert found.verdict.said.startswith(f"Run {run.id} scored it 1 on ")
        assert found.fates[run.id].classes == ("disqualified",)

    def test_disqualified_by_an_unknown_run_is_not_blamed_on_a_known_one(self, site: Site) -> None:
        reasoning = "Automatically disqualified: Bounced"
        site.host.add_leads("lead-1", sentimentTag="Bounced", overallScore=1, scoredAt=NOON, scoreReasoning=reasoning)
        run = site.whole_run()

        found = ask(site, "lead-1")

        assert "a run that the ledger doesn't show, or by the old script" in found.verdict.said
        assert found.fates[run.id].classes == ("already_scored",)

    def test_lead_to_be_scored_again_says_both(self, site: Site) -> None:
        site.host.add_leads("lead-1", overallScore=2, scoredAt=NOON)
        site.whole_run(rescore_all=True)

        found = ask(site, "lead-1").verdict

        assert (found.kind, found.said.startswith("It has a score, 2, and a job to score it again.")) == (
            "waiting",
            True,
        )


class TestJobs:
    def test_reserved_job_without_a_session_says_what_to_start(self, site: Site) -> None:
        site.host.add_leads("lead-1")
        site.whole_run(score_here=True)

        found = ask(site, "lead-1").verdict

        assert (found.kind, found.next) == ("reserved", "backfill work")

    def test_reserved_job_names_the_running_session(self, desk: Desk) -> None:
        desk.site.host.add_leads("lead-1")
        desk.site.whole_run(score_here=True)
        session = desk.start()

        assert f"session {session}" in ask(desk.site, "lead-1").verdict.said

    def test_job_held_here_says_so(self, desk: Desk) -> None:
        desk.add("lead-1")
        desk.claim()

        found = ask(desk.site, "lead-1").verdict

        assert (found.kind, found.next) == ("running", "backfill work --status")

    def test_place_in_the_queue_counts_jobs_of_every_kind(self, desk: Desk) -> None:
        desk.add("lead-1", "lead-2", runAt=NOON)
        desk.add("lead-3", runAt=NOON + timedelta(minutes=1))
        desk.site.host.do("""UPDATE "BackgroundJob" SET "dedupeKey" = 'live' WHERE "leadId" = 'lead-1'""")

        assert "behind 2 others" in ask(desk.site, "lead-3").verdict.said

    def test_job_of_another_workspace_explains_a_missing_score(self, site: Site) -> None:
        site.host.add_client("client-2")
        site.host.add_leads("lead-1")
        site.host.add_job("lead-1", "SUCCEEDED", clientId="client-2")

        assert "it names another workspace than the lead's" in ask(site, "lead-1").verdict.said

    @pytest.mark.parametrize("error", ["Ann Example <ann@example.org> wrote: stop", "401 for ann@example.org"])
    def test_error_of_the_host_is_never_repeated(self, site: Site, error: str) -> None:
        site.host.add_leads("lead-1", firstName="Ann", email="ann@example.org")
        site.host.add_job("lead-1", "FAILED", lastError=error)

        found = ask(site, "lead-1")

        shown = answer(found) + str(found.as_json())
        assert "Ann" not in shown
        assert "example.org" not in shown

    def test_error_of_ours_is_shown(self, site: Site) -> None:
        site.host.add_leads("lead-1")
        site.host.add_job("lead-1", "FAILED", lastError="backfill: the request timed out")

        assert "after 2 of 3 attempts: the request timed out." in ask(site, "lead-1").verdict.said


class TestRuns:
    def test_lead_without_any_run_is_told_what_starts_one(self, site: Site) -> None:
        site.host.add_leads("lead-1")

        found = ask(site, "lead-1").verdict

        assert (found.kind, found.next) == ("no_run", "backfill run lead-scoring --apply --client-id client-1")

    def test_database_without_a_ledger_is_answered(self, own_site: Site) -> None:
        own_site.host.do("DROP SCHEMA backfill CASCADE")
        own_site.host.add_leads("lead-1", overallScore=3)

        assert ask(own_site, "lead-1").verdict.kind == "scored"

    @pytest.mark.parametrize(
        ("state", "kind"), [("running", "ahead"), ("paused", "halted"), ("cancelled", "not_reached")]
    )
    def test_lead_that_no_lane_has_reached(self, site: Site, state: str, kind: str) -> None:
        site.host.add_leads("lead-1", "lead-2", "lead-3")
        run = site.start(limit=1)
        site.deliver()
        if state == "paused":
            site.runs.pause(run.id, "paused by command")
        elif state == "cancelled":
            site.runs.cancel(run.id)

        found = ask(site, "lead-3")

        assert (found.verdict.kind, found.passages[0].place, found.passages[0].lane) == (kind, "ahead", 1)

    def test_lead_behind_a_failed_lane_says_why_it_failed(self, site: Site) -> None:
        site.host.add_leads("lead-1", "lead-2")
        run = site.start(limit=1)
        site.deliver()
        fail(site, run, "its worker was killed five times")

        found = ask(site, "lead-2").verdict

        assert (found.kind, found.next) == ("halted", f"backfill resume {run.id}")
        assert "its worker was killed five times" in found.said

    def test_lead_outside_the_run_s_range_is_told_which_end(self, site: Site) -> None:
        site.host.add_leads("lead-1", "lead-2")
        site.whole_run(after="lead-1")
        site.host.add_leads("lead-3")

        places = [ask(site, lead).passages[0].place for lead in ("lead-1", "lead-2", "lead-3")]

        assert places == ["before", "passed", "beyond"]

    def test_ledger_without_the_record_says_so(self, site: Site) -> None:
        site.host.add_leads("lead-1", "lead-2")
        site.host.add_job("lead-1", "PENDING")
        run = site.whole_run()
        site.host.do("UPDATE backfill.page SET enqueued = NULL")

        fates = {lead: ask(site, lead).fates[run.id] for lead in ("lead-1", "lead-2")}

        assert fates["lead-1"].classes == ("refreshed",)
        assert fates["lead-2"].classes == ("inserted",)

    def test_pages_that_share_a_time_don_t_both_claim_the_job(self, site: Site) -> None:
        site.host.add_leads("lead-1", "lead-2")
        site.host.add_job("lead-2", "PENDING")
        runs = [site.whole_run(), site.whole_run()]
        site.host.do(
            "UPDATE backfill.page SET at = (SELECT min(at) FROM backfill.page), counts = counts || '{\"inserted\": 1}'"
        )

        found = ask(site, "lead-1").fates

        assert [found[run.id].classes for run in runs] == [("inserted", "refreshed")] * 2

    def test_deleted_page_is_said_to_be_missing(self, site: Site) -> None:
        site.host.add_leads("lead-1")
        site.whole_run()
        site.host.do("DELETE FROM backfill.page")

        found = ask(site, "lead-1")

        assert "the ledger doesn't have the page any more" in found.as_json()["runs"][0]["said"]

    def test_page_among_many_is_found_in_few_round_trips(self, site: Site) -> None:
        leads = [f"lead-{number:04}" for number in range(400)]
        site.host.add_leads(*leads)
        site.whole_run(limit=1, lanes=2)
        sent: list[str] = []
        event.listen(site.engine, "before_cursor_execute", lambda _c, _k, statement, *_: sent.append(statement))

        found = [ask(site, lead).passages[0].page for lead in (leads[0], leads[199], leads[200], leads[399])]

        assert [each.number for each in found if each] == [1, 200, 1, 200]
        assert len([each for each in sent if "FROM backfill.page" in each]) / 4 <= 4

    def test_runs_beyond_the_newest_twenty_are_counted(self, site: Site) -> None:
        site.host.add_leads("lead-1")
        for _ in range(22):
            site.whole_run()

        found = ask(site, "lead-1")

        assert (len(found.passages), found.older_runs) == (20, 2)
        assert len(answer(found).splitlines()) <= 24


def fail(site: Site, run: Run, reason: str) -> None:
    message = site.waiting.pop(0)
    with site.engine.begin() as connection:
        ledger.fail_lane(connection, message, reason)
    with site.engine.begin() as connection:
        ledger.finish(connection, run.id)


class TestKeys:
    @pytest.mark.parametrize(
        ("columns", "keys"),
        [
            ("id bigint PRIMARY KEY", ["-5", "0", "9", "10", "100"]),
            ("id numeric PRIMARY KEY", ["-1.5", "0.10", "10", "9"]),
            ("id uuid PRIMARY KEY", ["7d444840-9dc0-11d1-b245-5ffdce74fad2", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
            ("id timestamptz PRIMARY KEY", ["2026-01-01 00:00:00.1+00", "2026-01-01 02:00:00+03", "infinity"]),
            ('id text COLLATE "C" PRIMARY KEY', ["", "a", "B", "ä", "Z", "_"]),
            ("id text PRIMARY KEY", ["", "a", "B", "ä", "Z", "_", '"', "{}", ":x"]),
        ],
    )
    def test_each_row_is_on_its_own_page(self, english_site: Site, columns: str, keys: Sequence[str]) -> None:
        make_table(english_site, f"{columns}, done boolean NOT NULL DEFAULT false", [[key] for key in keys])
        walk = Walk.of(english_site, marking())
        walk.whole_run(limit=1, lanes=2)
        wanted = english_site.host.rows("SELECT cursor, lane, number FROM backfill.page WHERE counts ->> 'read' <> '0'")

        for row in wanted:
            (passage,) = ask(english_site, row["cursor"], walk.backfill).passages
            assert passage.page is not None
            assert (passage.lane, passage.page.number) == (row["lane"], row["number"])
        assert len(wanted) == len(keys)

    def test_composite_key_travels_as_json(self, site: Site) -> None:
        rows = [["a", 1], ["a", 10], ["a", 9], ["b", 0]]
        make_table(site, "a text, id bigint, done boolean NOT NULL DEFAULT false, PRIMARY KEY (a, id)", rows)
        walk = Walk.of(site, marking(key=("a", "id")))
        walk.whole_run(limit=1)

        found = [
            ask(site, f'["{a}", {number}]', walk.backfill) for a, number in (("a", 1), ("a", 9), ("a", 10), ("b", 0))
        ]

        assert [each.passages[0].page.number for each in found if each.passages[0].page] == [1, 2, 3, 4]
        assert found[0].now.item == '["a", "1"]'

    @pytest.mark.parametrize("item", ["x", "1.5", "", "99999999999999999999"])
    def test_malformed_key_is_refused_in_one_line(self, site: Site, item: str) -> None:
        make_table(site, "id bigint PRIMARY KEY, done boolean NOT NULL DEFAULT false", [[1]])

        with pytest.raises(UsageError, match="whose key has another form"):
            ask(site, item, Walk.of(site, marking()).backfill)

    def test_key_in_another_spelling_is_found(self, site: Site) -> None:
        make_table(site, "id bigint PRIMARY KEY, done boolean NOT NULL DEFAULT false", [[7]])

        assert ask(site, "007", Walk.of(site, marking()).backfill).now.item == "7"

    def test_condition_of_the_backfill_says_what_is_left_to_do(self, site: Site) -> None:
        make_table(site, "id int PRIMARY KEY, done boolean NOT NULL DEFAULT false", [[1], [2]])
        walk = Walk.of(site, marking())
        run = walk.whole_run()
        site.host.do("UPDATE thing SET done = false WHERE id = 2")

        verdicts = [ask(site, item, walk.backfill).verdict for item in ("1", "2")]

        assert [each.kind for each in verdicts] == ["nothing_to_do", "passed"]
        assert f"Run {run.id} passed it" in verdicts[1].said

    def test_lead_ids_may_have_a_collation_of_their_own(self, make_database, server) -> None:  # type: ignore[no-untyped-def]
        site = Site(make_database(locale="en_US.UTF-8"), server.redis_url)
        site.create()
        site.restore()
        try:
            site.host.do('ALTER TABLE "Lead" ALTER id TYPE text COLLATE "C"')
            leads = ["B", "Z", "_", "a", "b", "ä"]
            site.host.add_leads(*leads)
            site.whole_run(limit=1, lanes=2)

            found = [ask(site, lead).passages[0] for lead in leads]

            assert [(each.lane, each.page and each.page.number) for each in found] == [
                (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3),
            ]  # fmt: skip
            assert all(each.enqueued_at for each in found)
        finally:
            site.close()


class TestMessageRollups:
    def test_each_kind_of_lead_is_told_apart(self, site: Site) -> None:
        site.host.add_leads("lagging")
        site.host.add_leads("silent", inbound=0)
        run = site.whole_run(backfill="message-rollups")
        site.host.add_message("newer", "lagging", direction="inbound", sentAt=NOON + timedelta(days=1))

        found = [ask(site, lead, "message-rollups") for lead in ("lagging", "silent")]

        assert [each.verdict.kind for each in found] == ["passed", "nothing_to_do"]
        assert [each.now.would for each in found] == ["updated", "no_message"]
        assert f"Run {run.id} passed it" in found[0].verdict.said


class TestInput:
    @pytest.mark.parametrize(
        ("item", "said"),
        [
            ("none-such", "none of the leads has the id 'none-such', and no run has recorded it"),
            ("", "none of the leads has an empty id, and no run has recorded it"),
            ("a\x1b[31m\n", r"none of the leads has the id 'a\\x1b[31m\\n', and no run has recorded it"),
            ("a\x00b", r"none of the leads has the id 'a\\x00b', because no text in PostgreSQL contains a zero byte"),
            ("\udce9", r"none of the leads has the id '\\udce9', because this database's encoding UTF8 can't store it"),
        ],
    )
    def test_unknown_id_is_refused_in_one_exact_line(self, site: Site, item: str, said: str) -> None:
        with pytest.raises(UsageError) as refused:
            ask(site, item)

        assert str(refused.value) == said.replace(r"\\", "\\")

    @pytest.mark.parametrize("time", ["-infinity", "4713-01-01 BC", "infinity", "294276-12-31"])
    def test_times_that_no_client_can_read_do_no_harm(self, site: Site, time: str) -> None:
        site.host.add_leads("lead-1", "lead-2")
        site.whole_run()
        for change in (
            f"""UPDATE "Lead" SET "createdAt" = '{time}', "scoredAt" = '{time}'""",
            f"""UPDATE "Message" SET "createdAt" = '{time}'""",
            f"""UPDATE "BackgroundJob" SET "runAt" = '{time}', "createdAt" = '{time}', "lockedAt" = '{time}'""",
        ):
            site.host.do(change)

        found = ask(site, "lead-1")

        assert answer(found)
        assert "inserted" in found.fates[found.passages[0].run].classes
