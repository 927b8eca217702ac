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
    def test_allows_the_designs_transitions_only(self) -> None:
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

    def test_only_the_finisher_completes_or_fails_a_run(self) -> None:
        assert {each.by for each in states.RUN if each.new in {"complete", "failed"}} == {"finisher"}

    def test_only_an_operator_resumes_or_cancels_a_run(self) -> None:
        assert {each.by for each in states.RUN if each.new in {"running", "cancelled"}} == {"operator"}

    def test_every_transition_records_an_event(self) -> None:
        assert {each.event for each in states.RUN} == {"resumed", "paused", "failed", "complete", "cancelled"}

    @pytest.mark.parametrize("state", states.RUN_STATES)
    def test_event_depends_on_the_new_state_only(self, state: RunState) -> None:
        assert len({each.event for each in states.RUN if each.new == state}) == 1


class TestLanes:
    def test_allows_the_designs_transitions_only(self) -> None:
        assert arrows(states.LANE) == {("running", "done"), ("running", "failed"), ("failed", "running")}

    def test_only_an_operator_restarts_a_failed_lane(self) -> None:
        assert {each.by for each in states.LANE if each.old == "failed"} == {"operator"}

    @pytest.mark.parametrize("state", states.LANE_STATES)
    def test_each_lane_state_lists_known_run_states(self, state: LaneState) -> None:
        assert set(states.RUN_STATES_FOR[state]) <= set(states.RUN_STATES)

    def test_lane_is_reseeded_in_a_running_run_only(self) -> None:
        assert states.RUN_STATES_FOR["running"] == ("running",)

    def test_no_lane_fails_in_a_finished_run(self) -> None:
        assert not {"complete", "cancelled"} & set(states.RUN_STATES_FOR["failed"])


@pytest.mark.parametrize("table", [states.RUN, states.LANE], ids=["run", "lane"])
def test_transitions_are_unique(table: tuple[states.Transition[RunState], ...]) -> None:
    steps = [(each.old, each.new, each.by) for each in table]

    assert len(set(steps)) == len(steps)


class TestGroups:
    def test_unfinished_runs_are_neither_complete_nor_cancelled(self) -> None:
        assert set(states.UNFINISHED) == {"running", "paused", "failed"}

    def test_ended_runs_do_no_more_pages(self) -> None:
        assert set(states.ENDED) == {"failed", "complete", "cancelled"}

    def test_halted_runs_wait_for_an_operator(self) -> None:
        assert set(states.HALTED) == {"paused", "failed"}

    def test_unfinished_lanes_are_running_or_failed(self) -> None:
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
    def test_command_is_refused_in_one_line_with_the_next_command(
        self, command: Command, state: RunState, says: str
    ) -> None:
        with pytest.raises(WrongStateError) as refused:
            states.require("r-1", state, command)

        assert str(refused.value) == f"run r-1 {says}"
        assert (refused.value.run, refused.value.state, refused.value.command) == ("r-1", state, command)

    @pytest.mark.parametrize("command", states.ACCEPTS)
    @pytest.mark.parametrize("state", states.RUN_STATES)
    def test_command_is_accepted_in_every_other_state(self, command: Command, state: RunState) -> None:
        if (command, state) not in [refused[:2] for refused in REFUSED]:
            states.require("r-1", state, command)

    def test_error_names_the_wanted_state(self) -> None:
        with pytest.raises(IllegalTransitionError) as refused:
            states.require("r-1", "failed", "pause")

        assert refused.value.wanted == "paused"

    @pytest.mark.parametrize(
        ("command", "state"), [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")]
    )
    def test_command_may_be_repeated(self, command: Command, state: RunState) -> None:
        states.require("r-1", state, command)


class TestStatements:
    """SQL uses the table too: no statement lists states or changes a state by itself."""

    @pytest.mark.parametrize("path", SOURCES, ids=name)
    def test_one_statement_changes_a_runs_state_and_one_a_lanes(self, path: Path) -> None:
        updates = re.findall(r"UPDATE\s+backfill\.(\w+)(.*?)(?:\bWHERE\b|$)", path.read_text(), re.DOTALL)

        changing = {table for table, assignments in updates if re.search(r"\bstate\s*=", assignments)}

        assert changing == {"ledger/transitions.py": {"run"}, "sql/move_lanes.sql": {"lane"}}.get(name(path), set())

    @pytest.mark.parametrize("path", SOURCES, ids=name)
    def test_no_statement_lists_states(self, path: Path) -> None:
        assert re.findall(r"\bstate\s+(?:NOT\s+)?IN\s*\(|\bstate\s*(?:<>|!=)\s*'", path.read_text()) == []

    @pytest.mark.parametrize("path", SOURCES, ids=name)
    def test_no_statement_names_an_unknown_state(self, path: Path) -> None:
        named = set(re.findall(r"\bstate\s*=\s*'(\w+)'", path.read_text()))

        assert named <= {*states.RUN_STATES, *states.LANE_STATES}
