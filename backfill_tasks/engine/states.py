"""The states of runs and lanes: which transitions are legal, who makes them, and which event each one records.

`RUN` and `LANE` are the only place that says so. The ledger's statements take the legal source states from them as
parameters (see ledger/transitions.py), the commands take their refusals from them, and the groups of states below
derive from them. A transition that isn't listed is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

from backfill_tasks.errors import UsageError

RunState = Literal["running", "paused", "cancelled", "complete", "failed"]
LaneState = Literal["running", "done", "failed"]

#: Who makes a transition: an operator's command, the task that does a page, the finisher (whichever process finds that
#: all lanes have ended), or the watchdog.
Actor = Literal["operator", "page", "finisher", "watchdog"]

Command = Literal["pause", "resume", "cancel", "tune", "retry"]

State = TypeVar("State", RunState, LaneState)


@dataclass(frozen=True)
class Transition(Generic[State]):
    """A legal step from one state to another. `event`: the name it has in the ledger; None: another event tells of it.

    A step from `running` to `running` reseeds: it starts a new chain with a higher generation, in a lane or in a run's
    lanes, and leaves the state as it is.
    """

    old: State
    new: State
    by: Actor
    event: str | None


RUN: tuple[Transition[RunState], ...] = (
    Transition("running", "paused", "operator", "paused"),
    Transition("running", "paused", "page", "paused"),  # its budget is used up, or its single batch is done
    Transition("running", "failed", "finisher", "failed"),
    Transition("running", "complete", "finisher", "complete"),
    Transition("running", "cancelled", "operator", "cancelled"),
    Transition("running", "running", "operator", "resumed"),  # without waiting for the watchdog, after Redis lost data
    Transition("paused", "running", "operator", "resumed"),
    Transition("paused", "cancelled", "operator", "cancelled"),
    Transition("failed", "running", "operator", "resumed"),
    Transition("failed", "cancelled", "operator", "cancelled"),
)

LANE: tuple[Transition[LaneState], ...] = (
    Transition("running", "done", "page", None),  # the page's own row tells of it
    Transition("running", "failed", "page", "lane failed"),
    Transition("running", "running", "page", None),  # a single batch goes on in the next lane
    Transition("running", "running", "watchdog", "lane seeded again"),
    Transition("running", "running", "operator", None),  # the run's own "resumed" tells of it
    Transition("failed", "running", "operator", None),
)

RUN_STATES: tuple[RunState, ...] = get_args(RunState)
LANE_STATES: tuple[LaneState, ...] = get_args(LaneState)


def transition(table: tuple[Transition[State], ...], old: State, new: State, by: Actor) -> Transition[State] | None:
    """Return the transition from one state to another by this actor; None if it isn't legal."""
    return next((each for each in table if (each.old, each.new, each.by) == (old, new, by)), None)


def sources(table: tuple[Transition[State], ...], new: State, by: Actor) -> tuple[State, ...]:
    """Return the states that this actor may take a run or a lane from into a state."""
    return tuple(each.old for each in table if (each.new, each.by) == (new, by))


def _with_a_way_out(table: tuple[Transition[State], ...], states: tuple[State, ...]) -> tuple[State, ...]:
    left = {each.old for each in table if each.old != each.new}
    return tuple(each for each in states if each in left)


#: Runs that an operator may still resume: all but complete and cancelled ones.
UNFINISHED: tuple[RunState, ...] = _with_a_way_out(RUN, RUN_STATES)

#: Runs in which no page is done any more, and that have a time at which they finished.
ENDED: tuple[RunState, ...] = tuple(
    each for each in RUN_STATES if each not in UNFINISHED or sources(RUN, each, "finisher")
)

#: Runs that wait for an operator to resume them.
HALTED: tuple[RunState, ...] = tuple(each for each in sources(RUN, "running", "operator") if each != "running")

#: Lanes that have something left to walk.
UNFINISHED_LANES: tuple[LaneState, ...] = _with_a_way_out(LANE, LANE_STATES)

#: A lane's transitions by their new state: the states that its run must be in. A page that was at work when its run was
#: paused, failed or cancelled still commits, and may be its lane's last. Nothing else changes a lane of a finished run.
RUN_STATES_FOR: Mapping[LaneState, tuple[RunState, ...]] = {
    "done": RUN_STATES,
    "failed": UNFINISHED,
    "running": ("running",),
}

#: The state that a command takes a run into. The other commands leave its state as it is.
TARGETS: Mapping[Command, RunState] = {"pause": "paused", "resume": "running", "cancel": "cancelled"}

#: The states in which a run accepts a command and is changed by it.
ACCEPTS: Mapping[Command, tuple[RunState, ...]] = {
    **{command: sources(RUN, target, "operator") for command, target in TARGETS.items()},
    "tune": UNFINISHED,
    "retry": tuple(each for each in RUN_STATES if each != "cancelled"),
}

_STANDING: Mapping[RunState, str] = {"failed": "has failed"}

_WAY_ON: Mapping[RunState, str] = {
    "running": "`backfill watch {run}` follows it",
    "paused": "`backfill resume {run}` continues it",
    "failed": "`backfill resume {run}` continues it, `backfill cancel {run}` ends it",
    "complete": "`backfill verify {run}` checks it",
    "cancelled": "`backfill run` starts another",
}


class WrongStateError(UsageError):
    """A run's state doesn't allow a command; nothing was changed. The text says what to type instead."""

    def __init__(self, run: str, state: RunState, command: Command) -> None:
        standing = _STANDING.get(state, f"is {state}")
        super().__init__(f"run {run} {standing}: nothing to {command}; {_WAY_ON[state].format(run=run)}")
        self.run = run
        self.state = state
        self.command = command


class IllegalTransitionError(WrongStateError):
    """No transition leads from a run's state to the one that a command wants."""

    def __init__(self, run: str, state: RunState, command: Command, wanted: RunState) -> None:
        super().__init__(run, state, command)
        self.wanted = wanted


def require(run: str, state: RunState, command: Command) -> None:
    """Raise unless a run in this state accepts a command, or is already where the command takes it.

    Raises:
        IllegalTransitionError: the command takes a run into another state, and this one can't go there.
        WrongStateError: the command leaves the state as it is, and isn't for runs in this one.
    """
    wanted = TARGETS.get(command)
    if state in ACCEPTS[command] or state == wanted:
        return
    if wanted is None:
        raise WrongStateError(run, state, command)
    raise IllegalTransitionError(run, state, command, wanted)
