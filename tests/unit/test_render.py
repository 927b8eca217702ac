"""What the operator reads: correct numbers, plain words, 80 columns."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from unbounded import only

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.backfills.message_rollups import MessageRollups
from backfill_tasks.cli.render.counts import job_lines
from backfill_tasks.cli.render.events import event_lines
from backfill_tasks.cli.render.lanes import lane_lines, lanes_in_words, trouble_lines
from backfill_tasks.cli.render.next_steps import next_steps
from backfill_tasks.cli.render.outcome import outcome_line, outcome_lines
from backfill_tasks.cli.render.progress import progress_line
from backfill_tasks.cli.render.summary import run_list, summary
from backfill_tasks.cli.render.text import WIDTH, duration, table
from backfill_tasks.cli.render.verification import verification
from backfill_tasks.engine.ledger import Event
from backfill_tasks.engine.model import Bounds, Lane, Mode, Quarantined, Run, RunId
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.engine.states import RunState
from backfill_tasks.engine.verification import Verification
from backfill_tasks.options import Parameters

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEADS = LeadScoring()


class Enrichment(LeadScoring):
    """A backfill with jobs that uses its own words."""

    items = "contacts"
    result = "address"


COUNTS = {
    "read": 2_000_000,
    "inserted": 1_234_567,
    "requeued": 99_999,
    "refreshed": 88_888,
    "in_flight": 20,
    "disqualified": 576_520,
    "quarantined": 6,
    "already_scored": 1_111_111,
    "no_inbound": 2_222_222,
}
CLEAN = Verification((), 0, 0, {"inserted": (10, 10), "disqualified": (2, 2)}, (), 12)


def lane(number: int = 1, **changes: Any) -> Lane:
    uuid = "9f1c2e5a-7b3d-4c6e-8f90-a1b2c3d4e5f6"
    whole = Lane(number, Bounds(None, uuid), uuid, 12_345, 1, "running", None, COUNTS, START)
    return replace(whole, **changes)


def run(*lanes: Lane, **changes: Any) -> Run:
    whole = Run(
        id=RunId("260301-120000-abcd"),
        mode="apply",
        state="running",
        reason=None,
        parameters=Parameters("lead-scoring", 500, 64),
        single_batch=False,
        started_at=START,
        finished_at=None,
        seen_at=START + timedelta(hours=99, minutes=59, seconds=59),
        started_by="me@here",
        ordinal=0,
        expected=123_456_789,
        lanes=lanes,
    )
    return replace(whole, **changes)


def too_wide(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) > WIDTH]


class TestWidth:
    @pytest.mark.parametrize("mode", get_args(Mode))
    @pytest.mark.parametrize("state", get_args(RunState))
    def test_a_summary_keeps_to_the_width(self, mode: Mode, state: RunState) -> None:
        shown = summary(LEADS, run(*(lane(number) for number in range(1, 65)), mode=mode, state=state))

        assert too_wide(shown) == []

    @pytest.mark.parametrize("state", get_args(RunState))
    def test_a_verification_keeps_to_the_width(self, state: RunState) -> None:
        found = Verification(
            missing=tuple(lane().bounds.upper for _ in range(30)),
            arrived=1_234_567,
            quarantined=1_234_567,
            found={"inserted": (123_456_789, 12_345_678), "disqualified": (123_456_789, 12_345_678)},
            contradictions=(),
            looked_at=123_456_789,
            unresolved={name: (lane().bounds.upper,) * 30 for name in LEADS.unresolved},
            waiting=123_456_789,
        )

        assert too_wide(verification(LEADS, run(lane(), state=state), found)) == []

    @pytest.mark.parametrize("state", get_args(RunState))
    def test_the_progress_keeps_to_the_width(self, state: RunState) -> None:
        moving = run(
            lane(1),
            lane(2, counts={}, state="done"),
            state=state,
            expected=2_000_000,
            seen_at=START + timedelta(minutes=10),
        )

        assert too_wide(progress_line(LEADS, moving)) == []

    def test_a_cursor_that_is_very_long_is_shortened(self) -> None:
        assert too_wide(summary(LEADS, run(lane(cursor="x" * 200)))) == []


class TestTheHostsHalf:
    def found(self, **changes: Any) -> Outcome:
        whole = Outcome(
            jobs={"PENDING": 1_234_567, "RUNNING": 20, "SUCCEEDED": 1_000, "FAILED": 3},
            unended=1_234_587,
            done=990,
            oldest_due_at=START,
            last_due_at=START,
            per_minute=20,
            seen_at=START + timedelta(seconds=41),
        )
        return replace(whole, **changes)

    def test_it_is_in_the_summary_and_keeps_to_the_width(self) -> None:
        shown = summary(LEADS, run(lane(counts={"read": 250})), found=self.found())

        assert "    PENDING         1,234,567   the oldest has been due for 41.0 s\n" in shown
        assert too_wide(shown) == []

    def test_the_disqualified_are_not_done_by_the_host(self) -> None:
        (first, *_) = outcome_lines(LEADS, run(lane(counts={"read": 20, "disqualified": 10})), self.found())

        assert first == "  done by the host        990   leads have their score from this run's jobs"

    def test_it_says_when_the_last_lead_will_have_its_score(self) -> None:
        halfway = run(lane(counts={"read": 500, "inserted": 250}), expected=1_000)

        (*_, last) = outcome_lines(LEADS, halfway, self.found(unended=150))

        assert last.endswith("20.0/min   the last job in about 20 min 0 s")

    def test_it_says_that_the_end_is_not_known_where_nobody_counted_the_leads(self) -> None:
        (*_, last) = outcome_lines(LEADS, run(lane(counts={"read": 500}), expected=None), self.found())

        assert last.endswith("time left not yet known")

    def test_it_uses_the_words_of_the_backfill(self) -> None:
        enrichment, ended = Enrichment(), self.found(jobs={"SUCCEEDED": 1_000}, unended=0)

        shown = " ".join(summary(enrichment, run(lane(), state="complete"), found=ended).split())

        assert "done by the host 990 contacts have their address from this run's jobs" in shown
        assert "all jobs have ended, 10 gave no address" in shown
        assert "host: 990 contacts done" in outcome_line(enrichment, run(lane()), ended)

    def test_it_says_when_all_is_done(self) -> None:
        done = self.found(jobs={"PENDING": 0, "SUCCEEDED": 990}, unended=0)

        (*_, last) = outcome_lines(LEADS, run(lane(), state="complete"), done)

        assert last.endswith("all jobs are done")

    def test_it_says_how_many_jobs_ended_without_a_score(self) -> None:
        ended = self.found(jobs={"SUCCEEDED": 1_000, "FAILED": 3}, unended=0)

        (*_, last) = outcome_lines(LEADS, run(lane(), state="complete"), ended)

        assert last.endswith("all jobs have ended, 13 gave no score")

    def test_it_says_that_nothing_is_known_of_a_run_of_an_older_version(self) -> None:
        old = self.found(known=False, jobs={}, unended=0, done=0)

        assert "unknown" in summary(LEADS, run(lane()), found=old)
        assert "unknown" in outcome_line(LEADS, run(lane()), old)
        assert old.as_json(0)["done"] is None

    def test_on_one_line_it_keeps_to_the_width(self) -> None:
        assert too_wide(outcome_line(LEADS, run(lane()), self.found())) == []


class TestSummary:
    @pytest.mark.parametrize("name", [name for name in COUNTS if name not in LEADS.passed_over])
    def test_it_has_every_count(self, name: str) -> None:
        lines = summary(LEADS, run(lane())).splitlines()

        assert any(name.replace("_", " ") in line and f" {COUNTS[name]:,}" in line for line in lines)

    @pytest.mark.parametrize("name", LEADS.passed_over)
    def test_that_of_a_dry_run_also_has_what_a_run_does_not_read(self, name: str) -> None:
        dry, wet = (summary(LEADS, run(lane(), mode=mode)) for mode in ("dry-run", "apply"))

        assert f"{COUNTS[name]:,}" in dry
        assert f"{COUNTS[name]:,}" not in wet

    def test_that_of_a_dry_run_says_that_nothing_was_changed_and_how_to_apply_it(self) -> None:
        shown = summary(LEADS, run(lane(), mode="dry-run", state="complete"))

        assert shown.endswith("Nothing was changed. To apply it, add --apply to the same command.")

    def test_it_has_duration_and_rate(self) -> None:
        shown = summary(LEADS, run(lane(), finished_at=START + timedelta(seconds=200)))

        assert "3 min 20 s   10,000 leads/s" in shown

    def test_it_has_the_cursor_of_every_lane(self) -> None:
        shown = summary(LEADS, run(lane(1, cursor="lead-a"), lane(2, cursor="lead-b"), lane(3, cursor=None)))

        assert [line.split()[-1] for line in shown.splitlines() if line[:6].strip() in {"1", "2", "3"}] == [
            "lead-a",
            "lead-b",
            "-",
        ]

    def test_it_says_why_a_lane_stopped(self) -> None:
        stopped = lane(state="failed", reason="page 3: permission denied (42501)")

        assert "permission denied (42501)" in summary(LEADS, run(stopped, state="failed"))

    def test_it_names_the_quarantined_and_how_many_more_there_are(self) -> None:
        shown = summary(LEADS, run(lane()), quarantined=[Quarantined("lead-7", "too long (22001)")])

        assert "    lead-7  too long (22001)\n" in shown
        assert "and 5 more" in shown

    def test_a_long_reason_stands_below_its_lead_within_80_columns(self) -> None:
        why = 'the host\'s function refuse_everything() raised an error: constraint "no_more_than_this" (23514)'

        shown = summary(LEADS, run(lane()), quarantined=[Quarantined("lead-7", why)])

        assert "    lead-7\n        the host's function" in shown
        assert why in " ".join(shown.split())
        assert [line for line in shown.splitlines() if len(line) > 80] == []

    @pytest.mark.parametrize(
        ("state", "command"),
        [
            ("running", "backfill watch 260301-120000-abcd"),
            ("paused", "backfill resume"),
            ("failed", "backfill resume"),
            ("cancelled", "backfill run --apply"),
            ("complete", "backfill verify 260301-120000-abcd"),
        ],
    )
    def test_it_says_what_to_do_next(self, state: RunState, command: str) -> None:
        assert any(command in line for line in next_steps(run(state=state)))

    def test_a_run_with_nothing_to_walk_can_be_shown(self) -> None:
        assert "in 0 lanes" in summary(LEADS, run(state="complete", finished_at=START))


class TestProgress:
    def test_it_says_how_much_of_how_much_is_done(self) -> None:
        moving = run(lane(counts={"read": 250}, state="done"), lane(2, counts={"read": 250}), expected=1_000)

        shown = progress_line(LEADS, moving)

        assert "500 of 1,000 (50%)" in shown
        assert "1/2 lanes" in shown

    def test_it_says_why_a_lane_waits(self) -> None:
        waiting = run(lane(reason="page 3 waits for a retry: deadlock detected (40P01)"))

        shown = " ".join("\n".join(trouble_lines(waiting)).split())
        assert re.search(r"lane 1, no page for .+: page 3 waits for a retry: deadlock detected \(40P01\)", shown)

    def test_lanes_that_wait_for_the_same_are_told_together(self) -> None:
        waiting = run(*(lane(number, reason="no worker is online") for number in (1, 2, 4)), lane(5, reason="rate"))

        shown = [" ".join(each.split()) for each in trouble_lines(waiting)]

        assert [each.partition(",")[0] for each in shown] == ["lanes 1 to 2", "lane 4", "lane 5"]

    def test_a_reason_stands_once_beneath_the_lanes_that_it_holds(self) -> None:
        shown = lane_lines(run(lane(1, reason="no worker is online"), lane(2, reason="no worker is online")))

        assert shown[-1] == "        lanes 1 to 2: no worker is online"
        assert len(shown) == 4

    def test_it_is_one_line(self) -> None:
        assert len(progress_line(LEADS, run(lane())).splitlines()) == 1


class TestVerification:
    def test_a_clean_one_says_so(self) -> None:
        shown = verification(LEADS, run(lane(), state="complete"), CLEAN)

        assert shown.splitlines()[-1].startswith("Clean: no leads are missing")

    def test_it_says_which_leads_are_missing_and_how_to_get_them(self) -> None:
        shown = verification(LEADS, run(lane(), state="complete"), replace(CLEAN, missing=("lead-3", "lead-9")))

        assert "NOT CLEAN" in shown
        assert {"lead-3", "lead-9"} <= set(shown.split())
        assert "backfill run --apply" in shown

    @pytest.mark.parametrize(
        ("missing", "left_alone", "remedies"),
        [
            (("a",), (), ["backfill run message-rollups --apply"]),
            (("a", "b"), ("b",), ["backfill run message-rollups --apply", "docs/runbook.md"]),
            (("b",), ("b",), ["docs/runbook.md"]),
        ],
    )
    def test_it_names_a_run_only_for_what_a_run_mends(
        self, missing: tuple[str, ...], left_alone: tuple[str, ...], remedies: list[str]
    ) -> None:
        rolled_up = run(lane(), state="complete", parameters=Parameters("message-rollups", 500, 1))

        shown = verification(MessageRollups(), rolled_up, replace(CLEAN, missing=missing, left_alone=left_alone))

        next_lines = [line for line in shown.splitlines() if line.startswith("Next: ")]
        assert [remedy in line for remedy, line in zip(remedies, next_lines, strict=True)] == [True] * len(remedies)
        assert all(len(line) <= WIDTH for line in shown.splitlines())
        assert ("a run leaves alone" in shown) == bool(left_alone)

    def test_what_an_index_hides_from_a_run_comes_before_the_run(self) -> None:
        shown = verification(LEADS, run(lane()), replace(CLEAN, missing=("a", "b"), hidden=("b",))).splitlines()

        assert shown[-2].startswith('Next: "A damaged index" in docs/runbook.md')
        assert shown[-1].startswith("Next: backfill run --apply")
        assert "hidden by an index 1 another run would skip them, too" in " ".join("\n".join(shown).split())

    def test_the_run_that_it_names_walks_the_same_leads(self) -> None:
        parameters = Parameters("lead-scoring", 500, 1, cursor="lead-1", options={"client_ids": ["a b", "client-2"]})
        small = run(lane(), state="complete", parameters=parameters)

        shown = verification(LEADS, small, replace(CLEAN, missing=("lead-3",))).splitlines()

        assert shown[-2:] == [
            "Next: backfill run --apply --client-id 'a b' --client-id client-2 --cursor lead-1",
            "      does what is missing",
        ]

    def test_it_says_which_count_is_wrong(self) -> None:
        shown = verification(LEADS, run(lane()), replace(CLEAN, contradictions=("lane 1: it counts 7, its pages 8",)))

        assert "NOT CLEAN" in shown
        assert "lane 1: it counts 7, its pages 8" in shown

    def test_it_says_how_many_rows_the_host_has_changed_since(self) -> None:
        shown = verification(LEADS, run(lane()), replace(CLEAN, found={"inserted": (10, 7)}))

        assert re.search(r"\b3 (were )?changed or deleted since", shown)

    def test_it_does_not_say_that_no_lead_is_missing_where_one_is(self) -> None:
        lost = replace(CLEAN, missing=("lead-3",), found={"inserted": (10, 9)})

        assert "no leads are missing" not in verification(LEADS, run(lane()), lost)

    def test_it_says_that_a_run_on_its_way_is_not_looked_at_whole(self) -> None:
        assert "not complete" in verification(LEADS, run(lane(), state="paused"), CLEAN)


def paced(*, cost: float | None = None, **pace: Any) -> Run:
    """Return a run of 1,200 jobs."""
    parameters = Parameters("lead-scoring", 500, 1, pace=only(**pace), cost_per_job=cost)
    return run(lane(counts={"read": 2_000, "inserted": 900, "requeued": 300, "refreshed": 800}), parameters=parameters)


class TestJobs:
    def test_it_says_how_long_they_take_to_come_due(self) -> None:
        (line,) = job_lines(LEADS, paced(jobs_per_minute=10.0))

        assert " ".join(line.split()) == "spread over 2 h 0 min 10 jobs come due per minute"

    def test_it_says_what_they_cost(self) -> None:
        (line,) = job_lines(LEADS, paced(cost=0.0125))

        assert " ".join(line.split()) == "cost 15.00 1,200 jobs at 0.0125"

    def test_it_says_nothing_where_nothing_was_asked(self) -> None:
        assert job_lines(LEADS, paced()) == []

    def test_it_says_nothing_of_a_run_without_jobs(self) -> None:
        assert job_lines(LEADS, run(lane(counts={"read": 7}), parameters=paced(cost=1.0).parameters)) == []

    def test_it_is_a_part_of_the_summary(self) -> None:
        lines = summary(LEADS, paced(cost=0.0125, jobs_per_minute=10.0)).splitlines()

        assert set(job_lines(LEADS, paced(cost=0.0125, jobs_per_minute=10.0))) <= set(lines)

    def test_the_largest_numbers_keep_to_the_width(self) -> None:
        many = run(
            lane(counts={"read": 10**9, "inserted": 10**9}),
            parameters=Parameters("lead-scoring", 1, 1, pace=only(jobs_per_minute=0.001), cost_per_job=1_000_000.0),
        )

        assert too_wide("\n".join(job_lines(LEADS, many))) == []


def event(name: str, *, who: str = "ada@office", **detail: Any) -> list[str]:
    return event_lines(Event(START, name, detail, who))


class TestEvents:
    def test_each_has_its_time_its_name_and_who_did_it(self) -> None:
        assert event("cancelled")[0] == "2026-03-01 12:00:00  cancelled, by ada@office"

    def test_times_are_in_utc_wherever_the_database_is(self) -> None:
        there = START.astimezone(timezone(timedelta(hours=9)))

        assert event_lines(Event(there, "complete", {}, "ada@office"))[0].startswith("2026-03-01 12:00:00")

    def test_what_was_tuned_is_shown_old_and_new(self) -> None:
        shown = event("tuned", max_pending=[50, None], jobs_per_minute=[10.0, 2.5])

        assert [line.strip() for line in shown[1:]] == ["max pending 50 -> none", "jobs per minute 10 -> 2.5"]

    def test_a_change_of_the_rate_is_shown_old_and_new(self) -> None:
        assert event("rate", rate=["20/s", "none"])[1].strip() == "rate 20/s -> none"

    def test_a_change_of_state_is_shown_old_and_new_with_its_reason(self) -> None:
        shown = event("paused", old="running", new="paused", reason="its budget of 9 jobs is used up")

        assert [line.strip() for line in shown[1:]] == ["running -> paused", "its budget of 9 jobs is used up"]

    def test_two_of_a_kind_are_no_change(self) -> None:
        shown = "\n".join(
            [
                *event("started", parameters={"client_ids": ["acme", "umbra"]}),
                *event("resumed", old="failed", lost_lanes=[1, 2]),
            ]
        )

        assert "->" not in shown
        assert "client ids acme umbra" in shown
        assert "lost lanes 1 2" in shown

    @pytest.mark.parametrize(("asked", "got", "shown"), [(2, 2, "lanes 2"), (2, 1, "lanes 1 of 2")])
    def test_lanes_are_shown_once_and_how_many_were_asked_for_if_there_are_fewer(
        self, asked: int, got: int, shown: str
    ) -> None:
        lines = event("started", parameters={"lanes": asked, "limit": 500}, lanes=got)

        assert [line.strip() for line in lines[1:]] == [f"{shown}, limit 500"]

    def test_parameters_that_ask_for_nothing_are_left_out(self) -> None:
        shown = "\n".join(event("started", parameters={"limit": 500, "cursor": None, "delay_ms": 0}))

        assert "limit 500" in shown
        assert "cursor" not in shown
        assert "delay" not in shown

    def test_they_keep_to_the_width(self) -> None:
        host = "worker-" + "f" * 60
        shown = [
            *event("started", who=f"root@{host}", parameters=Parameters("lead-scoring", 500, 64).as_json(), lanes=64),
            *event("lane failed", lane=1, page=3, reason="the database refused this and that " * 20),
            *event("tuned", max_pending=[100_000_000, None], jobs_per_minute=[0.001, 1_000_000.0]),
        ]

        assert too_wide("\n".join(shown)) == []

    def test_no_line_is_blank_or_ends_in_blanks(self) -> None:
        shown = event("paused", old="running", new="paused", reason=None)

        assert [line for line in shown if line != line.rstrip() or not line] == []


class TestParts:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0.0 s"),
            (4.24, "4.2 s"),
            (59.9, "59.9 s"),
            (59.96, "1 min 0 s"),
            (60, "1 min 0 s"),
            (200, "3 min 20 s"),
            (3_599.6, "1 h 0 min"),
            (18_600, "5 h 10 min"),
            (360_000, "4 d 4 h"),
        ],
    )
    def test_a_duration_reads_as_one_says_it(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text

    def test_a_tables_columns_are_as_wide_as_what_is_in_them(self) -> None:
        assert table(("run", "state"), [("r-1", "complete"), ("r-1000", "x")]) == (
            "run     state\nr-1     complete\nr-1000  x"
        )

    @pytest.mark.parametrize(("number", "words"), [(0, "0 lanes"), (1, "1 lane"), (2, "2 lanes")])
    def test_lanes_are_counted_in_words(self, number: int, words: str) -> None:
        assert lanes_in_words(number) == words


def test_the_list_of_runs_fits_whatever_they_are() -> None:
    rollups = replace(run().parameters, backfill="message-rollups")
    longest = [run(lane(), state="cancelled", parameters=rollups), run(lane(counts={"read": 9_876_543_210}))]

    text = run_list(longest)

    assert too_wide(text) == []
    assert [line.split()[0] for line in text.splitlines()] == ["run", *(each.id for each in longest)]


def test_the_list_of_runs_says_what_an_ordinary_run_is_of() -> None:
    rollups = replace(run().parameters, backfill="message-rollups")

    text = run_list([run(lane(), state="complete", parameters=rollups)])

    assert text.endswith("  message-rollups")
