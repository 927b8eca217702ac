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
from backfill_tasks.cli.render.progress import progress_line
from backfill_tasks.cli.render.road import bar, bars, headline, percent, road_line, road_lines
from backfill_tasks.cli.render.summary import run_list, summary
from backfill_tasks.cli.render.text import WIDTH, counted, duration, table
from backfill_tasks.cli.render.verification import verification
from backfill_tasks.engine.ledger import Event
from backfill_tasks.engine.model import Bounds, Lane, Mode, Quarantined, Run, RunId
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.engine.road import Road
from backfill_tasks.engine.states import RunState
from backfill_tasks.engine.verification import Verification
from backfill_tasks.forecast.answer import Forecast
from backfill_tasks.options import Parameters

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEADS = LeadScoring()


class Enrichment(LeadScoring):
    """A backfill with jobs and words of its own."""

    items = "contacts"
    result = "address"
    done = "addressed"


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
    def test_summary_fits_the_width(self, mode: Mode, state: RunState) -> None:
        shown = summary(LEADS, run(*(lane(number) for number in range(1, 65)), mode=mode, state=state))

        assert too_wide(shown) == []

    @pytest.mark.parametrize("state", get_args(RunState))
    def test_verification_fits_the_width(self, state: RunState) -> None:
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
    def test_progress_fits_the_width(self, state: RunState) -> None:
        moving = run(
            lane(1),
            lane(2, counts={}, state="done"),
            state=state,
            expected=2_000_000,
            seen_at=START + timedelta(minutes=10),
        )

        assert too_wide(progress_line(LEADS, moving)) == []

    def test_long_cursor_is_shortened(self) -> None:
        assert too_wide(summary(LEADS, run(lane(cursor="x" * 200)))) == []


def outcome(**changes: Any) -> Outcome:
    """Return the outcome of a run that has enqueued a thousand leads; most of them wait."""
    whole = Outcome(
        jobs={"PENDING": 790, "RUNNING": 10, "SUCCEEDED": 198, "FAILED": 2},
        unended=800,
        done=190,
        oldest_due_at=START,
        last_due_at=START,
        per_minute=20,
        seen_at=START + timedelta(seconds=41),
        done_by={"host": 150, "here": 40, "otherwise": 0},
        waiting={"due": 40, "later": 750, "running": 10, "never_due": 0},
        without={"failed": 2, "without_score": 8, "unknown_status": 0, "removed": 0, "gone": 0},
    )
    return replace(whole, **changes)


def ended(**changes: Any) -> Outcome:
    """Return the outcome of a run whose leads all have their score."""
    whole = outcome(unended=0, done=1_000, done_by={"host": 1_000}, waiting={}, without={}, oldest_due_at=None)
    return replace(whole, **changes)


#: The counts of a run that has enqueued a thousand leads and disqualified fifty.
THOUSAND = {"read": 1_050, "inserted": 700, "requeued": 200, "refreshed": 100, "disqualified": 50}


def halfway(**changes: Any) -> Run:
    return run(lane(counts=THOUSAND), **{"expected": 2_100, "seen_at": START + timedelta(seconds=42), **changes})


def road_of(found: Outcome | None, whole: Run | None = None) -> Road:
    return Road.of(LEADS, whole or halfway(), found)


def squeezed(text: str) -> str:
    return " ".join(text.split())


DAYS = Forecast.told(5.2 * 86_400, 6.9 * 86_400, "drain", "the host takes 12 of our jobs a minute")


class TestRoad:
    def test_lines_add_up_and_fit_the_width(self) -> None:
        lines = road_lines(LEADS, halfway(), road_of(outcome()), DAYS)

        assert squeezed("\n".join(lines)) == (
            "enqueued 1,000 of 2,050"
            " scored 190 150 by the host, 40 here"
            " waiting 800 40 due, 750 not due yet, 10 running; the oldest has been due for 41.0 s"
            " no score 10 failed 2 their job FAILED: its lastError says why"
            " without score 8 their job SUCCEEDED and left no score"
            " drain 20.0/min jobs of this run that ended lately"
            " last score 5 to 7 days: the host takes 12 of our jobs a minute"
        )
        assert too_wide("\n".join(lines)) == []

    def test_screen_has_one_line_for_missing_scores(self) -> None:
        lines = road_lines(LEADS, halfway(), road_of(outcome()), None, brief=True)

        assert "  no score                 10   2 failed, 8 without score" in lines

    def test_jobs_not_due_yet_are_reserved_for_our_workers_in_a_run_that_scores_here(self) -> None:
        parameters = Parameters("lead-scoring", 500, 1, options={"score_here": True})

        lines = road_lines(LEADS, halfway(parameters=parameters), road_of(outcome()), None)

        assert "40 due, 750 reserved, 10 running" in squeezed("\n".join(lines))

    def test_jobs_that_a_later_run_wrote_are_named(self) -> None:
        lines = road_lines(LEADS, halfway(), road_of(outcome(taken_over=7)), None)

        assert "  taken over                7   a later run has enqueued them again" in lines

    def test_old_count_is_shown_with_its_age(self) -> None:
        later = halfway(seen_at=START + timedelta(seconds=161))

        assert "(counted 2 min 0 s ago)" in "\n".join(road_lines(LEADS, later, road_of(outcome(), later), None))

    def test_jobs_that_cannot_be_counted_are_unknown(self) -> None:
        (shown,) = road_lines(LEADS, halfway(), road_of(outcome(known=False)), None)

        assert shown.split()[:2] == ["scored", "unknown"]
        assert too_wide(shown) == []

    def test_total_that_was_not_counted_is_a_lower_bound(self) -> None:
        uncounted = halfway(expected=None)

        assert road_lines(LEADS, uncounted, road_of(outcome(), uncounted), None)[0].endswith("of at least 1,000")

    def test_piped_lines_fit_the_width_and_say_what_binds(self) -> None:
        lines = road_line(LEADS, road_of(outcome()), DAYS)

        assert lines[0] == "  enqueued 1,000 of 2,050 · scored 190 · 800 wait · 10 without a score"
        assert squeezed(" ".join(lines[1:])) == (
            "the last of the leads has its score in 5 to 7 days: the host takes 12 of our jobs a minute"
        )
        assert too_wide("\n".join(lines)) == []

    def test_largest_numbers_fit_the_width(self) -> None:
        many = 10**9
        found = outcome(
            done=many, unended=many, done_by={"host": many, "here": many}, waiting={"due": many, "later": many}
        )
        large = halfway(expected=4 * many)

        shown = [*road_lines(LEADS, large, road_of(found, large), DAYS), *road_line(LEADS, road_of(found, large), DAYS)]

        assert too_wide("\n".join([*shown, *bars(LEADS, road_of(found, large))])) == []

    def test_backfill_without_jobs_has_a_road_of_one_step(self) -> None:
        whole = run(lane(counts={"read": 500, "updated": 500}), expected=1_000)
        road = Road.of(MessageRollups(), whole, None)

        assert bars(MessageRollups(), road) == ["done     ████████████░░░░░░░░░░░░  50%  500 of 1,000 leads"]
        assert road_lines(MessageRollups(), whole, road, None) == []
        assert road_line(MessageRollups(), road, None) == []

    def test_uses_the_backfills_words(self) -> None:
        lines = road_lines(Enrichment(), halfway(), road_of(outcome()), None)

        assert "addressed" in lines[1]
        assert any(line.startswith("  no address ") for line in lines)


class TestBars:
    def test_two_bars_share_their_scale(self) -> None:
        assert bars(LEADS, road_of(outcome())) == [
            "enqueued ███████████░░░░░░░░░░░░░  48%  1,000 of 2,050 leads",
            "scored   ██░░░░░░░░░░░░░░░░░░░░░░   9%  190 of 2,050 leads",
        ]

    def test_bar_is_full_only_when_all_are_done(self) -> None:
        assert (bar(0.9999), percent(0.9999)) == ("█" * 23 + "░", "99%")
        assert (bar(1.0), percent(1.0)) == ("█" * 24, "100%")

    def test_complete_run_without_eligible_leads_has_full_bars(self) -> None:
        empty = run(state="complete", expected=0)

        assert [line.split()[2] for line in bars(LEADS, road_of(ended(done=0), empty))] == ["100%", "100%"]

    def test_total_that_was_not_counted_has_no_bar(self) -> None:
        shown = bars(LEADS, road_of(outcome(), halfway(expected=None)))

        assert shown[0] == "enqueued 1,000 leads, of a number not counted before the start"

    def test_scores_that_are_not_counted_yet_have_no_bar(self) -> None:
        assert bars(LEADS, road_of(None))[1] == "scored   not counted yet"


class TestHeadline:
    """A complete run has enqueued its leads; whether they are scored is told beside it."""

    def said(self, found: Outcome | None) -> str:
        return headline(LEADS, road_of(found, halfway(state="complete")))

    def test_leads_that_wait_are_counted(self) -> None:
        assert self.said(outcome()) == "Enqueuing is complete: 800 leads still wait for their score."

    def test_leads_without_a_score_are_counted(self) -> None:
        lacking = ended(done=990, done_by={"host": 990}, without={"failed": 10})

        assert self.said(lacking) == "All jobs have ended, and 10 leads got no score."

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (ended(done=999, done_by={"host": 999}, without={"failed": 1}), "and 1 lead got no score."),
            (ended(done=999, done_by={"host": 999}, waiting={"due": 1}), "1 lead still waits for its score."),
            (ended(done=999, done_by={"host": 999}, taken_over=1), "A later run has enqueued 1 lead again."),
        ],
    )
    def test_one_lead_is_singular(self, found: Outcome, expected: str) -> None:
        assert self.said(found).endswith(expected)

    def test_scored_leads_are_said_to_be_scored(self) -> None:
        assert self.said(ended()) == "All enqueued leads are scored."

    def test_leads_of_a_later_run_are_not_said_to_be_scored(self) -> None:
        assert "are scored" not in self.said(ended(done=990, done_by={"host": 990}, taken_over=10))

    def test_jobs_that_cannot_be_counted_are_not_said_to_be_done(self) -> None:
        assert self.said(None) == "Enqueuing is complete. How many leads are scored can't be counted now."

    def test_summary_of_a_complete_run_says_what_is_open_and_how_to_follow_it(self) -> None:
        whole = halfway(state="complete")

        shown = summary(LEADS, whole, road=road_of(outcome(), whole), forecast=DAYS)

        assert shown.splitlines()[1] == "  Enqueuing is complete: 800 leads still wait for their score."
        assert "Next: backfill watch 260301-120000-abcd --until-scored   follows the jobs" in shown
        assert too_wide(shown) == []


class TestSummary:
    @pytest.mark.parametrize("name", [name for name in COUNTS if name not in LEADS.passed_over])
    def test_shows_every_count(self, name: str) -> None:
        lines = summary(LEADS, run(lane())).splitlines()

        assert any(name.replace("_", " ") in line and f" {COUNTS[name]:,}" in line for line in lines)

    @pytest.mark.parametrize("name", LEADS.passed_over)
    def test_dry_run_also_shows_leads_that_a_run_skips(self, name: str) -> None:
        dry, wet = (summary(LEADS, run(lane(), mode=mode)) for mode in ("dry-run", "apply"))

        assert f"{COUNTS[name]:,}" in dry
        assert f"{COUNTS[name]:,}" not in wet

    def test_dry_run_says_how_to_apply_it(self) -> None:
        shown = summary(LEADS, run(lane(), mode="dry-run", state="complete"))

        assert shown.endswith("Nothing was changed. To apply it, add --apply to the same command.")

    def test_shows_duration_and_rate(self) -> None:
        shown = summary(LEADS, run(lane(), finished_at=START + timedelta(seconds=200)))

        assert "3 min 20 s   10,000 leads/s" in shown

    def test_shows_every_lanes_cursor(self) -> None:
        shown = summary(LEADS, run(lane(1, cursor="lead-a"), lane(2, cursor="lead-b"), lane(3, cursor=None)))

        assert [line.split()[-1] for line in shown.splitlines() if line[:6].strip() in {"1", "2", "3"}] == [
            "lead-a",
            "lead-b",
            "-",
        ]

    def test_shows_why_a_lane_stopped(self) -> None:
        stopped = lane(state="failed", reason="page 3: permission denied (42501)")

        assert "permission denied (42501)" in summary(LEADS, run(stopped, state="failed"))

    def test_lists_quarantined_leads_and_counts_the_rest(self) -> None:
        shown = summary(LEADS, run(lane()), quarantined=[Quarantined("lead-7", "too long (22001)")])

        assert "    lead-7  too long (22001)\n" in shown
        assert "and 5 more" in shown

    def test_long_reason_wraps_below_its_lead(self) -> None:
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
    def test_shows_the_next_command(self, state: RunState, command: str) -> None:
        assert any(command in line for line in next_steps(run(state=state)))

    def test_run_without_lanes_can_be_shown(self) -> None:
        assert "in 0 lanes" in summary(LEADS, run(state="complete", finished_at=START))


class TestProgress:
    def test_shows_leads_and_lanes_done(self) -> None:
        moving = run(lane(counts={"read": 250}, state="done"), lane(2, counts={"read": 250}), expected=1_000)

        shown = progress_line(LEADS, moving)

        assert "500 of 1,000 (50%)" in shown
        assert "1/2 lanes" in shown

    def test_shows_why_a_lane_waits(self) -> None:
        waiting = run(lane(reason="page 3 waits for a retry: deadlock detected (40P01)"))

        shown = " ".join("\n".join(trouble_lines(waiting)).split())
        assert re.search(r"lane 1, no page for .+: page 3 waits for a retry: deadlock detected \(40P01\)", shown)

    def test_adjacent_lanes_with_one_reason_share_a_line(self) -> None:
        waiting = run(*(lane(number, reason="no worker is online") for number in (1, 2, 4)), lane(5, reason="rate"))

        shown = [" ".join(each.split()) for each in trouble_lines(waiting)]

        assert [each.partition(",")[0] for each in shown] == ["lanes 1 to 2", "lane 4", "lane 5"]

    def test_shared_reason_is_shown_once_below_its_lanes(self) -> None:
        shown = lane_lines(run(lane(1, reason="no worker is online"), lane(2, reason="no worker is online")))

        assert shown[-1] == "        lanes 1 to 2: no worker is online"
        assert len(shown) == 4

    def test_progress_is_one_line(self) -> None:
        assert len(progress_line(LEADS, run(lane())).splitlines()) == 1


class TestVerification:
    def test_clean_verification_says_so(self) -> None:
        shown = verification(LEADS, run(lane(), state="complete"), CLEAN)

        assert shown.splitlines()[-1].startswith("Clean: no leads are missing")

    def test_lists_missing_leads_and_the_command_that_fixes_them(self) -> None:
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
    def test_suggests_a_run_only_for_leads_that_a_run_fixes(
        self, missing: tuple[str, ...], left_alone: tuple[str, ...], remedies: list[str]
    ) -> None:
        rolled_up = run(lane(), state="complete", parameters=Parameters("message-rollups", 500, 1))

        shown = verification(MessageRollups(), rolled_up, replace(CLEAN, missing=missing, left_alone=left_alone))

        next_lines = [line for line in shown.splitlines() if line.startswith("Next: ")]
        assert [remedy in line for remedy, line in zip(remedies, next_lines, strict=True)] == [True] * len(remedies)
        assert all(len(line) <= WIDTH for line in shown.splitlines())
        assert ("a run leaves alone" in shown) == bool(left_alone)

    def test_damaged_index_is_fixed_before_the_next_run(self) -> None:
        shown = verification(LEADS, run(lane()), replace(CLEAN, missing=("a", "b"), hidden=("b",))).splitlines()

        assert shown[-2].startswith('Next: "A damaged index" in docs/runbook.md')
        assert shown[-1].startswith("Next: backfill run --apply")
        assert "hidden by an index 1 another run would skip them, too" in " ".join("\n".join(shown).split())

    def test_suggested_run_covers_the_same_leads(self) -> None:
        parameters = Parameters("lead-scoring", 500, 1, cursor="lead-1", options={"client_ids": ["a b", "client-2"]})
        small = run(lane(), state="complete", parameters=parameters)

        shown = verification(LEADS, small, replace(CLEAN, missing=("lead-3",))).splitlines()

        assert shown[-2:] == [
            "Next: backfill run --apply --client-id 'a b' --client-id client-2 --cursor lead-1",
            "      does what is missing",
        ]

    def test_shows_which_count_is_wrong(self) -> None:
        shown = verification(LEADS, run(lane()), replace(CLEAN, contradictions=("lane 1 counts 7, but its pages 8",)))

        assert "NOT CLEAN" in shown
        assert "lane 1 counts 7, but its pages 8" in shown

    def test_shows_how_many_rows_the_host_has_changed_since(self) -> None:
        shown = verification(LEADS, run(lane()), replace(CLEAN, found={"inserted": (10, 7)}))

        assert re.search(r"\b3 (were )?changed or deleted since", shown)

    def test_missing_leads_are_never_denied(self) -> None:
        lost = replace(CLEAN, missing=("lead-3",), found={"inserted": (10, 9)})

        assert "no leads are missing" not in verification(LEADS, run(lane()), lost)

    def test_enqueued_leads_are_told_apart(self) -> None:
        found = replace(CLEAN, road=road_of(outcome(unended=798, without={"failed": 2, "without_score": 8, "gone": 2})))

        shown = verification(LEADS, run(lane(), state="complete"), found)

        assert squeezed("\n".join(shown.splitlines()[6:11])) == (
            "enqueued 1,000 by this run scored 190 still waiting 798 without a score 12"
            " gone 2 the lead was deleted, and its job with it"
        )
        assert too_wide(shown) == []

    def test_leads_that_wait_are_not_called_scored(self) -> None:
        shown = verification(LEADS, run(lane(), state="complete"), replace(CLEAN, road=road_of(outcome())))

        assert shown.splitlines()[-2:] == [
            "800 leads still wait for their score: verify again once they have it.",
            "Next: backfill watch 260301-120000-abcd --until-scored   follows them",
        ]

    def test_lead_without_a_score_has_a_command_that_tells_why(self) -> None:
        found = replace(CLEAN, unresolved={"failed": ("lead-3", "lead-4")})

        shown = verification(LEADS, run(lane(), state="complete"), found)

        assert "Next: backfill why lead-3   tells the whole story of one of them" in shown

    def test_invalid_score_is_not_clean(self) -> None:
        shown = verification(LEADS, run(lane(), state="complete"), replace(CLEAN, invalid=("lead-9",)))

        assert "  invalid                       1   a score outside 1 to 4\n    lead-9\n" in shown
        assert "NOT CLEAN: no leads are missing, but 1 has no valid result." in shown

    def test_unfinished_run_is_reported_as_not_complete(self) -> None:
        assert "not complete" in verification(LEADS, run(lane(), state="paused"), CLEAN)


def paced(*, cost: float | None = None, **pace: Any) -> Run:
    """Return a run with 1,200 jobs."""
    parameters = Parameters("lead-scoring", 500, 1, pace=only(**pace), cost_per_job=cost)
    return run(lane(counts={"read": 2_000, "inserted": 900, "requeued": 300, "refreshed": 800}), parameters=parameters)


class TestJobs:
    def test_shows_the_time_over_which_jobs_come_due(self) -> None:
        (line,) = job_lines(LEADS, paced(jobs_per_minute=10.0))

        assert " ".join(line.split()) == "spread over 2 h 0 min 10 jobs come due per minute"

    def test_shows_the_cost(self) -> None:
        (line,) = job_lines(LEADS, paced(cost=0.0125))

        assert " ".join(line.split()) == "cost 15.00 1,200 jobs at 0.0125"

    def test_no_rate_and_no_price_show_no_line(self) -> None:
        assert job_lines(LEADS, paced()) == []

    def test_run_without_jobs_shows_no_line(self) -> None:
        assert job_lines(LEADS, run(lane(counts={"read": 7}), parameters=paced(cost=1.0).parameters)) == []

    def test_summary_includes_the_job_lines(self) -> None:
        lines = summary(LEADS, paced(cost=0.0125, jobs_per_minute=10.0)).splitlines()

        assert set(job_lines(LEADS, paced(cost=0.0125, jobs_per_minute=10.0))) <= set(lines)

    def test_largest_numbers_fit_the_width(self) -> None:
        many = run(
            lane(counts={"read": 10**9, "inserted": 10**9}),
            parameters=Parameters("lead-scoring", 1, 1, pace=only(jobs_per_minute=0.001), cost_per_job=1_000_000.0),
        )

        assert too_wide("\n".join(job_lines(LEADS, many))) == []


def event(name: str, *, who: str = "ada@office", **detail: Any) -> list[str]:
    return event_lines(Event(START, name, detail, who))


class TestEvents:
    def test_event_has_time_name_and_author(self) -> None:
        assert event("cancelled")[0] == "2026-03-01 12:00:00  cancelled, by ada@office"

    def test_times_are_utc_in_any_database_time_zone(self) -> None:
        there = START.astimezone(timezone(timedelta(hours=9)))

        assert event_lines(Event(there, "complete", {}, "ada@office"))[0].startswith("2026-03-01 12:00:00")

    def test_tuned_values_show_old_and_new(self) -> None:
        shown = event("tuned", max_pending=[50, None], jobs_per_minute=[10.0, 2.5])

        assert [line.strip() for line in shown[1:]] == ["max pending 50 -> none", "jobs per minute 10 -> 2.5"]

    def test_rate_change_shows_old_and_new(self) -> None:
        assert event("rate", rate=["20/s", "none"])[1].strip() == "rate 20/s -> none"

    def test_state_change_shows_old_new_and_reason(self) -> None:
        shown = event("paused", old="running", new="paused", reason="its budget of 9 jobs is used up")

        assert [line.strip() for line in shown[1:]] == ["running -> paused", "its budget of 9 jobs is used up"]

    def test_two_element_list_is_not_a_change(self) -> None:
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
    def test_lanes_are_shown_once_with_the_requested_number_if_higher(self, asked: int, got: int, shown: str) -> None:
        lines = event("started", parameters={"lanes": asked, "limit": 500}, lanes=got)

        assert [line.strip() for line in lines[1:]] == [f"{shown}, limit 500"]

    def test_unset_parameters_are_omitted(self) -> None:
        shown = "\n".join(event("started", parameters={"limit": 500, "cursor": None, "delay_ms": 0}))

        assert "limit 500" in shown
        assert "cursor" not in shown
        assert "delay" not in shown

    def test_events_fit_the_width(self) -> None:
        host = "worker-" + "f" * 60
        shown = [
            *event("started", who=f"root@{host}", parameters=Parameters("lead-scoring", 500, 64).as_json(), lanes=64),
            *event("lane failed", lane=1, page=3, reason="the database refused this and that " * 20),
            *event("tuned", max_pending=[100_000_000, None], jobs_per_minute=[0.001, 1_000_000.0]),
        ]

        assert too_wide("\n".join(shown)) == []

    def test_no_line_is_blank_or_has_trailing_spaces(self) -> None:
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
    def test_duration_reads_naturally(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text

    def test_table_columns_fit_their_content(self) -> None:
        assert table(("run", "state"), [("r-1", "complete"), ("r-1000", "x")]) == (
            "run     state\nr-1     complete\nr-1000  x"
        )

    @pytest.mark.parametrize(("number", "words"), [(0, "0 lanes"), (1, "1 lane"), (2, "2 lanes")])
    def test_lane_count_is_singular_or_plural(self, number: int, words: str) -> None:
        assert lanes_in_words(number) == words


def test_run_list_fits_the_width() -> None:
    rollups = replace(run().parameters, backfill="message-rollups")
    longest = [run(lane(), state="cancelled", parameters=rollups), run(lane(counts={"read": 9_876_543_210}))]

    text = run_list(longest)

    assert too_wide(text) == []
    assert [line.split()[0] for line in text.splitlines()] == ["run", *(each.id for each in longest)]


def test_run_list_names_the_backfill() -> None:
    rollups = replace(run().parameters, backfill="message-rollups")

    text = run_list([run(lane(), state="complete", parameters=rollups)])

    assert text.endswith("  message-rollups")


@pytest.mark.parametrize(
    ("number", "plural", "shown"),
    [
        (1, "leads", "1 lead"),
        (1, "categories", "1 category"),
        (1, "people", "1 people"),
        (0, "leads", "0 leads"),
        (1_000, "leads", "1,000 leads"),
    ],
)
def test_one_item_has_a_singular_noun(number: int, plural: str, shown: str) -> None:
    assert counted(number, plural) == shown
