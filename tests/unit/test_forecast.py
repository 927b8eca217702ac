"""When the last lead has its score: the model, without a database."""

import random
import statistics
from dataclasses import replace
from typing import Any

import pytest

from backfill_tasks.engine.outcome import Ends
from backfill_tasks.forecast import before, paths
from backfill_tasks.forecast.answer import Forecast
from backfill_tasks.forecast.history import History, history
from backfill_tasks.forecast.paths import Left, Schedule, durations
from backfill_tasks.forecast.road import forecast
from backfill_tasks.forecast.room import Room, room
from backfill_tasks.forecast.situation import Drain, Scoring, Situation
from backfill_tasks.forecast.unseen import outages, variation
from backfill_tasks.forecast.what_if import suggestions, what_if
from backfill_tasks.options import Pace

HOUR, DAY = 3_600.0, 86_400.0

#: The host has taken 12 of our jobs a minute for five hours, beside 4 live ones. At that rate, ten hours are left.
STEADY = Situation(
    state="running",
    waiting=12,
    ended=3_600,
    to_come=Left(7_188.0, 10.0),
    ends=Ends(60.0, [12] * 300),
    pace=Pace(max_pending=16),
    drain=Drain(60.0, live=4.0, least=16.0),
)


def seconds(found: Forecast) -> tuple[float, float]:
    assert found.state == "told"
    assert found.earliest_seconds is not None
    assert found.latest_seconds is not None
    return found.earliest_seconds, found.latest_seconds


class TestTheInterval:
    def test_contains_what_a_steady_drain_will_take(self) -> None:
        earliest, latest = seconds(forecast(STEADY))

        assert earliest < 10 * HOUR < latest
        assert latest - earliest < 0.6 * 10 * HOUR

    def test_is_always_the_same_for_the_same_facts(self) -> None:
        assert forecast(STEADY) == forecast(STEADY)

    def test_is_narrower_the_longer_the_rate_has_lasted(self) -> None:
        short, long = (replace(STEADY, ends=Ends(60.0, [12] * minutes)) for minutes in (30, 3_000))
        widths = [latest - earliest for earliest, latest in map(seconds, map(forecast, (short, long)))]

        assert widths[1] < widths[0] / 2

    def test_follows_a_step_of_the_rate(self) -> None:
        stepped = replace(STEADY, ends=Ends(60.0, [12] * 300 + [60] * 60))
        earliest, latest = seconds(forecast(stepped))

        assert earliest < 7_200 / 60 * 60 < latest
        assert latest < 10 * HOUR

    def test_ends_no_earlier_than_the_last_job_is_due(self) -> None:
        late = replace(STEADY, to_come=Left(0.0), due_seconds=3 * DAY)
        found = forecast(late)

        assert found.binds == "rate"
        assert 3 * DAY - 60 <= seconds(found)[0] <= seconds(found)[1] <= 3 * DAY + 120

    def test_is_wider_where_jobs_end_in_bursts(self) -> None:
        chance = random.Random(1)  # noqa: S311
        bursts = [0 if chance.random() < 0.9 else 120 for _ in range(300)]
        smooth, burst = seconds(forecast(STEADY)), seconds(forecast(replace(STEADY, ends=Ends(60.0, bursts))))

        assert burst[1] - burst[0] > smooth[1] - smooth[0]


class TestWithoutAnInterval:
    @pytest.mark.parametrize(
        ("changes", "state", "binds"),
        [
            ({"waiting": 0, "to_come": Left(0.0)}, "done", "nothing"),
            ({"ends": Ends(60.0, [])}, "unknown", "unmeasured"),
            ({"ends": Ends(60.0, [0] * 100)}, "unknown", "unmeasured"),
            ({"to_come": None}, "unknown", "unmeasured"),
            ({"never_due": 3}, "never", "never due"),
            ({"state": "paused"}, "never", "paused"),
            ({"state": "failed", "why": "lane 2 failed"}, "never", "failed"),
            ({"reserved": True}, "unknown", "scoring"),
            ({"pace": Pace(max_jobs=5_000)}, "never", "budget"),
            ({"reserved": True, "scoring": Scoring(running=True, reach=1_000.0)}, "never", "budget"),
        ],
    )
    def test_the_forecast_says_why(self, changes: dict[str, Any], state: str, binds: str) -> None:
        found = forecast(replace(STEADY, **changes))

        assert (found.state, found.binds) == (state, binds)
        assert found.reason

    def test_a_budget_of_jobs_says_how_far_it_reaches(self) -> None:
        found = forecast(replace(STEADY, pace=Pace(max_jobs=5_000)))

        assert found.reach == 5_000
        assert "about 5,800 leads get no job" in found.reason

    def test_a_budget_of_money_says_how_far_it_reaches(self) -> None:
        found = forecast(replace(STEADY, reserved=True, scoring=Scoring(running=True, reach=1_000.0)))

        assert found.reach == 4_600

    def test_a_budget_of_money_is_no_end_where_the_host_does_the_rest(self) -> None:
        assert forecast(replace(STEADY, scoring=Scoring(running=True, reach=1_000.0))).state == "told"

    def test_a_paused_run_without_leads_to_come_still_ends(self) -> None:
        assert forecast(replace(STEADY, state="paused", to_come=Left(0.0))).state == "told"

    def test_a_budget_that_is_enough_doesnt_bind(self) -> None:
        assert forecast(replace(STEADY, scoring=Scoring(running=True, reach=8_000.0))).state == "told"


class TestWhatBinds:
    @pytest.mark.parametrize(
        ("changes", "binds"),
        [
            ({}, "max pending"),
            ({"pace": Pace(), "drain": Drain(60.0, 4.0, 16.0, 16.0)}, "drain"),
            ({"pace": Pace(), "drain": Drain(60.0, 40.0, 52.0, 52.0)}, "live queue"),
            ({"drain": Drain(60.0, 4.0, 12.0, 12.0)}, "drain"),
            ({"spacing_seconds": 10.0, "pace": Pace(max_pending=None, jobs_per_minute=6.0)}, "rate"),
            ({"pages_seconds": 5 * DAY, "pace": Pace(max_pending=None)}, "pages"),
            ({"reserved": True, "scoring": Scoring(running=True, per_minute=12.0)}, "scoring"),
            ({"ends": Ends(60.0, [12] * 300 + [0] * 30)}, "stopped"),
        ],
    )
    def test_is_named(self, changes: dict[str, Any], binds: str) -> None:
        assert forecast(replace(STEADY, **changes)).binds == binds


class TestWhatIf:
    def test_a_smaller_bound_takes_in_proportion_longer(self) -> None:
        now, half = seconds(forecast(STEADY)), seconds(what_if(STEADY, {"max_pending": 10}).forecast)

        assert half[0] == pytest.approx(2 * now[0], rel=0.25)
        assert half[1] == pytest.approx(2 * now[1], rel=0.25)

    def test_a_larger_bound_is_between_no_gain_and_all_of_it_if_no_call_was_full(self) -> None:
        now, larger = seconds(forecast(STEADY)), seconds(what_if(STEADY, {"max_pending": 28}).forecast)

        assert 0.4 * now[0] < larger[0] < 0.8 * now[0]
        assert now[0] < larger[1] <= now[1]

    def test_a_larger_bound_gains_nothing_if_the_calls_are_full(self) -> None:
        full = replace(STEADY, drain=Drain(60.0, 4.0, 16.0, 16.0))

        assert seconds(what_if(full, {"max_pending": 100}).forecast) == seconds(forecast(full))

    def test_a_bound_that_live_jobs_fill_has_no_end(self) -> None:
        assert what_if(STEADY, {"max_pending": 4}).forecast.state == "never"

    def test_a_rate_of_due_times_is_kept_to(self) -> None:
        found = what_if(STEADY, {"jobs_per_minute": 3.0}).forecast

        assert found.binds == "rate"
        assert seconds(found)[0] > 39 * HOUR

    def test_what_was_never_measured_is_not_told(self) -> None:
        assert what_if(STEADY, {"max_pending": None}).forecast.state == "unknown"
        assert what_if(STEADY, {"max_live_wait": 0.0}).forecast.state == "unknown"
        assert what_if(STEADY, {"parallel": 4}).forecast.state == "unknown"

    def test_more_workers_gain_at_most_in_proportion(self) -> None:
        here = replace(
            STEADY, reserved=True, scoring=Scoring(running=True, per_minute=12.0, parallel=2, concurrency=64)
        )
        now, twice = seconds(forecast(here)), seconds(what_if(here, {"parallel": 4}).forecast)

        assert now[0] / 2.1 < twice[0] < now[0]
        assert twice[1] <= now[1]

    def test_a_larger_budget_reaches_the_last_lead(self) -> None:
        short = Scoring(running=True, per_minute=12.0, reach=100.0, cost=0.01, spent=36.0, parallel=2, concurrency=64)

        assert forecast(replace(STEADY, reserved=True, scoring=short)).state == "never"
        assert what_if(replace(STEADY, reserved=True, scoring=short), {"max_spend": 200.0}).forecast.state == "told"

    def test_the_page_size_changes_nothing_while_the_drain_decides(self) -> None:
        assert what_if(STEADY, {"limit": 100}).forecast == forecast(STEADY)

    def test_two_alternatives_at_most_suggest_themselves(self) -> None:
        known = replace(STEADY, scoring=Scoring(per_minute=600.0))
        found = suggestions(known, forecast(known))

        assert [each.label for each in found] == ["at --max-pending 32", "with `backfill work`"]
        assert all(each.forecast.state == "told" for each in found)

    def test_none_suggests_itself_where_nothing_is_known(self) -> None:
        drained = replace(STEADY, pace=Pace(), drain=Drain(60.0, 4.0, 16.0, 16.0))

        assert suggestions(drained, forecast(drained)) == []


class TestBeforeARun:
    START = Situation("running", 0, 0, Left(7_200.0), pace=Pace(max_pending=12), drain=Drain(60.0, 8.0, 8.0))

    def test_an_unmeasured_drain_is_said_to_be_assumed(self) -> None:
        found = before.expected(self.START)

        # 10 to 20 jobs a call, 8 of them live, and at most 12 waiting: 2 to 4 of ours.
        assert "assumed" in found.reason
        assert seconds(found)[0] < 7_200 / 3 * 60 < seconds(found)[1]

    def test_a_measured_drain_is_used(self) -> None:
        found = before.expected(replace(self.START, pace=Pace(), drain=Drain(60.0, 8.0, 68.0, 68.0)))

        assert found.binds == "drain"
        assert seconds(found)[0] < 2 * HOUR < seconds(found)[1] < 6 * HOUR

    def test_a_bound_on_waiting_jobs_says_nothing_of_reserved_ones(self) -> None:
        reserved = replace(self.START, reserved=True, spacing_seconds=6.0, scoring=Scoring(per_minute=1_200.0))

        found = before.expected(reserved)

        assert found.binds == "scoring"
        assert seconds(found)[0] < 6 * 60 < seconds(found)[1]

    def test_reserved_jobs_without_an_earlier_session_cant_be_told(self) -> None:
        assert before.expected(replace(self.START, reserved=True)).state == "unknown"

    def test_a_budget_of_jobs_is_noticed(self) -> None:
        found = before.expected(replace(self.START, pace=Pace(max_jobs=100)))

        assert (found.state, found.reach) == ("never", 100)


class TestHistory:
    def of(self, counts: list[int]) -> History:
        found = history(counts, 60.0)
        assert found is not None
        return found

    def test_a_steady_rate_is_one_stretch(self) -> None:
        chance = random.Random(2)  # noqa: S311
        counts = [sum(chance.random() < 0.5 for _ in range(24)) for _ in range(240)]

        assert len(self.of(counts).stretches) == 1

    def test_a_step_divides_it_where_it_is(self) -> None:
        found = self.of([10] * 100 + [20] * 50)

        assert [each.seconds / 60 for each in found.stretches] == [100, 50]
        assert found.now.rate == pytest.approx(20 / 60)

    def test_a_host_that_has_stopped_is_a_stretch(self) -> None:
        found = self.of([10] * 100 + [0] * 60)

        assert [each.ended for each in found.stretches] == [1_000, 0]

    def test_what_was_before_the_first_job_says_nothing(self) -> None:
        assert self.of([0] * 100 + [10] * 50).seconds == 50 * 60
        assert history([0] * 100, 60.0) is None

    def test_gaps_between_calls_are_no_bursts(self) -> None:
        found = history([10, 0, 0] * 30, 20.0, 60.0)

        assert found is not None
        assert (len(found.stretches), found.dispersion) == (1, 1.0)
        assert found.now.rate == pytest.approx(10 / 60)

    def test_bursts_of_several_buckets_raise_the_dispersion(self) -> None:
        alternating = self.of(([20] * 4 + [0] * 4) * 20)

        assert alternating.dispersion > self.of([20, 0] * 80).dispersion


class TestWhatAShortHistoryCantShow:
    def test_the_rate_varies_less_the_longer_the_history(self) -> None:
        def deviation(seen: float) -> float:
            chance = random.Random(3)  # noqa: S311
            return statistics.pstdev(variation(chance, seen, 10 * HOUR) for _ in range(500))

        assert deviation(HOUR) > 2 * deviation(100 * HOUR) > 0

    def test_it_varies_rather_to_the_slower(self) -> None:
        chance = random.Random(3)  # noqa: S311

        assert statistics.median(variation(chance, HOUR, 10 * HOUR) for _ in range(500)) < 1

    def test_outages_are_rarer_the_longer_the_history(self) -> None:
        def total(seen: float) -> float:
            chance = random.Random(3)  # noqa: S311
            return sum(outages(chance, seen, DAY) for _ in range(500))

        assert total(HOUR) > 2 * total(7 * DAY) > 0

    def test_an_outage_takes_an_hour_on_average(self) -> None:
        chance = random.Random(3)  # noqa: S311

        # Half an outage a day is expected before anything is known.
        assert sum(outages(chance, 0.0, DAY) for _ in range(2_000)) / 2_000 == pytest.approx(HOUR / 2, rel=0.2)


class TestRoom:
    def test_a_constant_bound_counts_live_jobs_too(self) -> None:
        assert room(Drain(60.0, 4.0, 20.0, 20.0), Pace(max_pending=12)) == Room(8.0, 8.0)

    def test_a_call_takes_no_more_than_it_takes(self) -> None:
        assert room(Drain(60.0, 4.0, 10.0, 10.0), Pace(max_pending=12)) == Room(6.0, 6.0)

    def test_nothing_shows_the_limit_of_calls_that_were_never_full(self) -> None:
        assert room(Drain(60.0, 4.0, 10.0), Pace(max_pending=None)) == Room(6.0, None)

    def test_spread_due_times_leave_so_many_due(self) -> None:
        assert room(Drain(60.0, 4.0, 20.0, 20.0), Pace(jobs_per_minute=5.0)) == Room(5.0, 5.0)


def test_a_standstill_may_last_for_long() -> None:
    found = history([12] * 5 + [0] * 500, 60.0)
    assert found is not None

    futures = durations(found, Left(1_000.0), Schedule(60.0))

    assert paths.quantile(futures, 0.9) > 7 * DAY
