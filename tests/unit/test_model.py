"""The engine's data types."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from unit.runs import START, run_of

from backfill_tasks.engine.model import Bounds, Lane, PageMessage, Run, RunId
from backfill_tasks.engine.states import LaneState, RunState
from backfill_tasks.options import Parameters

PARAMETERS = Parameters("lead-scoring", 500, 2, "a", 10, {"client_ids": ["c"], "rescore_all": True, "delay_ms": 3})
CLASSES = ("read", "inserted", "quarantined")


def lane(number: int = 1, **changes: Any) -> Lane:
    return replace(Lane(number, Bounds("a", "m"), None, 0, 1, "running", None, {}, START), **changes)


def run(*lanes: Lane, **changes: Any) -> Run:
    return run_of(*lanes, **{"parameters": PARAMETERS, "seen_at": START + timedelta(seconds=4), **changes})


class TestParameters:
    def test_parameters_survive_a_json_round_trip(self) -> None:
        assert Parameters.from_json(json.loads(json.dumps(PARAMETERS.as_json()))) == PARAMETERS

    def test_own_options_sit_beside_the_engines(self) -> None:
        assert {"limit": 500, "rescore_all": True, "delay_ms": 3}.items() <= PARAMETERS.as_json().items()

    def test_option_added_after_the_run_started_has_its_default(self) -> None:
        values = PARAMETERS.as_json()
        del values["target_page_ms"]

        assert Parameters.from_json(values).pace.target_page_ms == 200

    def test_backfill_name_is_required(self) -> None:
        with pytest.raises(KeyError, match="backfill"):
            Parameters.from_json({"limit": 500})


class TestMessage:
    def test_task_id_has_run_lane_page_and_generation(self) -> None:
        assert PageMessage(RunId("r-1"), 2, 30, 4).task_id == "r-1:lane-02:000030:g4"

    def test_task_ids_are_unique(self) -> None:
        messages = [
            PageMessage(RunId(run), *at) for run in ("r", "s") for at in ((1, 1, 1), (1, 1, 11), (1, 11, 1), (11, 1, 1))
        ]

        assert len({message.task_id for message in messages}) == len(messages)

    def test_message_reads_as_one_line(self) -> None:
        assert str(PageMessage(RunId("r-1"), 2, 30, 4)) == "run=r-1 lane=2 page=30 generation=4"


class TestLane:
    def test_new_lane_starts_at_its_lower_bound(self) -> None:
        assert lane().left == Bounds("a", "m")

    def test_rest_of_a_lane_starts_after_the_cursor(self) -> None:
        assert lane(cursor="f").left == Bounds("f", "m")

    def test_json_has_every_class_including_zero_counts(self) -> None:
        shown = lane(counts={"read": 2, "inserted": 2}).as_json(CLASSES, "running")

        assert shown["counts"] == {"read": 2, "inserted": 2, "quarantined": 0}

    def test_json_has_number_bounds_cursor_and_state(self) -> None:
        shown = lane(3, cursor="f", page=7).as_json(CLASSES, "paused")

        wanted = {"number": 3, "bounds": {"lower": "a", "upper": "m"}, "cursor": "f", "state": "paused", "pages": 7}
        assert wanted.items() <= shown.items()


class TestRun:
    def test_counts_and_pages_are_summed_over_lanes(self) -> None:
        both = run(lane(1, counts={"read": 2, "inserted": 1}, page=1), lane(2, counts={"read": 3}, page=4))

        assert both.counts == {"read": 5, "inserted": 1}
        assert both.pages == 5

    def test_duration_grows_until_the_run_ends(self) -> None:
        ended = run(finished_at=START + timedelta(seconds=2))

        assert (run().seconds, ended.seconds) == (4, 2)

    def test_rate_is_leads_read_over_total_duration(self) -> None:
        assert run(lane(counts={"read": 10})).items_per_second == 2.5

    def test_idle_time_of_a_lane_starts_at_its_last_move(self) -> None:
        stood, moved = lane(1), lane(2, moved_at=START + timedelta(seconds=3))

        assert [run(stood, moved).still_seconds(each) for each in (stood, moved)] == [4, 1]

    def test_run_of_zero_duration_has_no_rate(self) -> None:
        assert run(lane(counts={"read": 10}), seen_at=START).items_per_second == 0

    @pytest.mark.parametrize("state", ["running", "paused", "cancelled", "failed"])
    def test_unfinished_lane_has_its_runs_state(self, state: RunState) -> None:
        assert run(state=state).state_of(lane()) == state

    @pytest.mark.parametrize("state", ["done", "failed"])
    def test_finished_lane_keeps_its_own_state(self, state: LaneState) -> None:
        assert run(state="paused").state_of(lane(state=state)) == state

    def test_run_json_has_the_documented_keys(self) -> None:
        shown = run(lane(counts={"read": 2}, page=1), finished_at=START + timedelta(seconds=4)).as_json(CLASSES)

        assert json.loads(json.dumps(shown)) == {
            "run_id": "r-1",
            "state": "running",
            "reason": None,
            "mode": "apply",
            "parameters": PARAMETERS.as_json(),
            "expected": None,
            "counts": {"read": 2, "inserted": 0, "quarantined": 0},
            "jobs": 0,
            "cost": None,
            "pages": 1,
            "lanes": [lane(counts={"read": 2}, page=1).as_json(CLASSES, "running")],
            "started_at": "2026-03-01T12:00:00+00:00",
            "finished_at": "2026-03-01T12:00:04+00:00",
            "started_by": "me@here",
            "seconds": 4.0,
            "items_per_second": 0.5,
        }
