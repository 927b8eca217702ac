"""The table of states: its transitions, what they mean for the commands, and that no statement bypasses it."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from backfill_tasks.engine import states
from backfill_tasks.engine.states import Command, IllegalTransitionError, LaneState, RunState, WrongStateError

ENGINE = Path(str(files("backfill_tasks.engine")))
SOURCES = sorted(
    path
    for path in (*ENGINE.rglob("*.py"), *ENGINE.rglob("*.sql"))
    if "migrations" not in path.parts and re.search(r"backfill\.(run|lane)|(run|lane)\.state", path.read_text())
)


def name(path: object) -> str:
    return str(path.relative_to(ENGINE)) if isinstance(path, Path) else ""


def arrows(table: tuple[states.Transition[states.State], ...]) -> set[tuple[str, str]]:
    """Return the transitions of a table that change the state."""
    return {(each.old, each.new) for each in table if each.old != each.new}


class TestRuns:
    def test_move_as_the_design_says(self) -> None:
        assert arrows(states.RUN) == {
            ("running", "paused"),
            ("running", "failed"),
            ("running", "cancelled"),
            ("running", "complete"),
            ("paused", "running"),
            ("paused", "cancelled"),
            ("failed", "running"),
            ("failed", "cancelled"),
        }

    def test_only_the_finisher_says_complete_or_failed(self) -> None:
        assert {each.by for each in states.RUN if each.new in {"complete", "failed"}} == {"finisher"}

    def test_only_an_operator_resumes_or_cancels(self) -> None:
        assert {each.by for each in states.RUN if each.new in {"running", "cancelled"}} == {"operator"}

    def test_record_an_event_at_every_transition(self) -> None:
        assert {each.event for each in states.RUN} == {"resumed", "paused", "failed", "complete", "cancelled"}

    @pytest.mark.parametrize("state", states.RUN_STATES)
    def test_record_the_same_event_whoever_moves_them_into_a_state(self, state: RunState) -> None:
        assert len({each.event for each in states.RUN if each.new == state}) == 1


class TestLanes:
    def test_move_as_the_design_says(self) -> None:
        assert arrows(states.LANE) == {("running", "done"), ("running", "failed"), ("failed", "running")}

    def test_run_again_only_by_command_once_they_have_failed(self) -> None:
        assert {each.by for each in states.LANE if each.old == "failed"} == {"operator"}

    @pytest.mark.parametrize("state", states.LANE_STATES)
    def test_name_the_run_states_for_each_of_theirs(self, state: LaneState) -> None:
        assert set(states.RUN_STATES_FOR[state]) <= set(states.RUN_STATES)

    def test_are_reseeded_in_a_running_run_only(self) -> None:
        assert states.RUN_STATES_FOR["running"] == ("running",)

    def test_stop_in_no_run_that_is_finished(self) -> None:
        assert not {"complete", "cancelled"} & set(states.RUN_STATES_FOR["failed"])


@pytest.mark.parametrize("table", [states.RUN, states.LANE], ids=["run", "lane"])
def test_no_transition_is_listed_twice(table: tuple[states.Transition[RunState], ...]) -> None:
    steps = [(each.old, each.new, each.by) for each in table]

    assert len(set(steps)) == len(steps)


class TestGroups:
    def test_unfinished_runs_are_those_that_are_neither_complete_nor_cancelled(self) -> None:
        assert set(states.UNFINISHED) == {"running", "paused", "failed"}

    def test_ended_runs_are_those_in_which_no_page_is_done_any_more(self) -> None:
        assert set(states.ENDED) == {"failed", "complete", "cancelled"}

    def test_halted_runs_wait_for_an_operator(self) -> None:
        assert set(states.HALTED) == {"paused", "failed"}

    def test_unfinished_lanes_are_those_that_are_not_done(self) -> None:
        assert set(states.UNFINISHED_LANES) == {"running", "failed"}


REFUSED: list[tuple[Command, RunState, str]] = [
    ("pause", "failed",
     "has failed: nothing to pause. `backfill resume r-1` continues it, `backfill cancel r-1` ends it"),
    ("pause", "complete", "is complete: nothing to pause. `backfill verify r-1` checks it"),
    ("pause", "cancelled", "is cancelled: nothing to pause. `backfill run` starts another"),
    ("resume", "complete", "is complete: nothing to resume. `backfill verify r-1` checks it"),
    ("resume", "cancelled", "is cancelled: nothing to resume. `backfill run` starts another"),
    ("cancel", "complete", "is complete: nothing to cancel. `backfill verify r-1` checks it"),
    ("tune", "complete", "is complete: nothing to tune. `backfill verify r-1` checks it"),
    ("tune", "cancelled", "is cancelled: nothing to tune. `backfill run` starts another"),
    ("retry", "cancelled", "is cancelled: nothing to retry. `backfill run` starts another"),
]  # fmt: skip


class TestCommands:
    @pytest.mark.parametrize(("command", "state", "says"), REFUSED)
    def test_are_refused_in_one_line_that_says_what_to_type(self, command: Command, state: RunState, says: str) -> None:
        with pytest.raises(WrongStateError) as refused:
            states.require("r-1", state, command)

        assert str(refused.value) == f"run r-1 {says}"
        assert (refused.value.run, refused.value.state, refused.value.command) == ("r-1", state, command)

    @pytest.mark.parametrize("command", states.ACCEPTS)
    @pytest.mark.parametrize("state", states.RUN_STATES)
    def test_are_accepted_in_every_other_state(self, command: Command, state: RunState) -> None:
        if (command, state) not in [refused[:2] for refused in REFUSED]:
            states.require("r-1", state, command)

    def test_that_want_another_state_name_it(self) -> None:
        with pytest.raises(IllegalTransitionError) as refused:
            states.require("r-1", "failed", "pause")

        assert refused.value.wanted == "paused"

    @pytest.mark.parametrize(
        ("command", "state"), [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")]
    )
    def test_may_be_repeated(self, command: Command, state: RunState) -> None:
        states.require("r-1", state, command)


class TestTheStatements:
    """The table applies to SQL too: no statement names a set of states, or changes a state, by itself."""

    @pytest.mark.parametrize("path", SOURCES, ids=name)
    def test_only_one_of_the_run_s_and_one_of_the_lane_s_changes_a_state(self, path: Path) -> None:
        updates = re.findall(r"UPDATE\s+backfill\.(\w+)(.*?)(?:\bWHERE\b|$)", path.read_text(), re.DOTALL)

        changing = {table for table, assignments in updates if re.search(r"\bstate\s*=", assignments)}

        assert changing == {"ledger/transitions.py": {"run"}, "sql/move_lanes.sql": {"lane"}}.get(name(path), set())

    @pytest.mark.parametrize("path", SOURCES, ids=name)
    def test_none_spells_a_set_of_states_out(self, path: Path) -> None:
        assert re.findall(r"\bstate\s+(?:NOT\s+)?IN\s*\(|\bstate\s*(?:<>|!=)\s*'", path.read_text()) == []

    @pytest.mark.parametrize("path", SOURCES, ids=name)
    def test_none_names_a_state_that_does_not_exist(self, path: Path) -> None:
        named = set(re.findall(r"\bstate\s*=\s*'(\w+)'", path.read_text()))

        assert named <= {*states.RUN_STATES, *states.LANE_STATES}
