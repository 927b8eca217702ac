"""The states of runs and lanes: the legal transitions, who makes them, and the event each one records.

`RUN` and `LANE` are the only definition. The ledger's statements take the legal source states from them as parameters
(see ledger/transitions.py), the commands take their refusals from them, and the groups of states below are derived from
them. A transition that isn't listed is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

from backfill_tasks.errors import UsageError

RunState = Literal["running", "paused", "cancelled", "complete", "failed"]
LaneState = Literal["running", "done", "failed"]

#: The actors of transitions: an operator's command, the task that does a page, the finisher (whichever process finds
#: that the run has nothing left to walk), or the watchdog.
Actor = Literal["operator", "page", "finisher", "watchdog"]

Command = Literal["pause", "resume", "cancel", "tune", "retry"]

State = TypeVar("State", RunState, LaneState)


@dataclass(frozen=True)
class Transition(Generic[State]):
    """A legal transition from one state to another. `event`: its name in the ledger; None: another record shows it.

    A transition from `running` to `running` reseeds a lane, or the lanes of a run: it starts a new chain with a higher
    generation and leaves the state as it is.
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
    Transition("running", "running", "operator", "resumed"),  # reseeds at once after Redis lost data
    Transition("paused", "running", "operator", "resumed"),
    Transition("paused", "cancelled", "operator", "cancelled"),
    Transition("failed", "running", "operator", "resumed"),
    Transition("failed", "cancelled", "operator", "cancelled"),
)

LANE: tuple[Transition[LaneState], ...] = (
    Transition("running", "done", "page", None),  # the page's own row shows it
    Transition("running", "failed", "page", "lane failed"),
    Transition("running", "running", "page", None),  # a single batch continues in the next lane
    Transition("running", "running", "watchdog", "lane seeded again"),
    Transition("running", "running", "operator", None),  # the run's own "resumed" shows it
    Transition("failed", "running", "operator", None),
)

RUN_STATES: tuple[RunState, ...] = get_args(RunState)
LANE_STATES: tuple[LaneState, ...] = get_args(LaneState)


def transition(table: tuple[Transition[State], ...], old: State, new: State, by: Actor) -> Transition[State] | None:
    """Return this actor's transition from one state to another; None if it isn't legal."""
    return next((each for each in table if (each.old, each.new, each.by) == (old, new, by)), None)


def sources(table: tuple[Transition[State], ...], new: State, by: Actor) -> tuple[State, ...]:
    """Return the states from which this actor may move a run or a lane into a state."""
    return tuple(each.old for each in table if (each.new, each.by) == (new, by))


def _with_a_way_out(table: tuple[Transition[State], ...], states: tuple[State, ...]) -> tuple[State, ...]:
    left = {each.old for each in table if each.old != each.new}
    return tuple(each for each in states if each in left)


#: Runs that an operator may still resume: all except complete and cancelled ones.
UNFINISHED: tuple[RunState, ...] = _with_a_way_out(RUN, RUN_STATES)

#: Runs that do no more pages and have a finish time.
ENDED: tuple[RunState, ...] = tuple(
    each for each in RUN_STATES if each not in UNFINISHED or sources(RUN, each, "finisher")
)

#: Runs that wait for an operator to resume them.
HALTED: tuple[RunState, ...] = tuple(each for each in sources(RUN, "running", "operator") if each != "running")

#: Lanes with keys left to walk.
UNFINISHED_LANES: tuple[LaneState, ...] = _with_a_way_out(LANE, LANE_STATES)

#: For each new state of a lane, the states its run must be in. A page that was in flight when its run was paused,
#: failed or cancelled still commits, and may be its lane's last. Otherwise no lane of a finished run changes.
RUN_STATES_FOR: Mapping[LaneState, tuple[RunState, ...]] = {
    "done": RUN_STATES,
    "failed": UNFINISHED,
    "running": ("running",),
}

#: The state that a command moves a run into. The other commands leave the state as it is.
TARGETS: Mapping[Command, RunState] = {"pause": "paused", "resume": "running", "cancel": "cancelled"}

#: The states in which a command applies to a run.
ACCEPTS: Mapping[Command, tuple[RunState, ...]] = {
    **{command: sources(RUN, target, "operator") for command, target in TARGETS.items()},
    "tune": UNFINISHED,
    "retry": tuple(each for each in RUN_STATES if each != "cancelled"),
}

_PHRASES: Mapping[RunState, str] = {"failed": "has failed"}

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
        phrase = _PHRASES.get(state, f"is {state}")
        super().__init__(f"run {run} {phrase}: nothing to {command}. {_WAY_ON[state].format(run=run)}")
        self.run = run
        self.state = state
        self.command = command


class IllegalTransitionError(WrongStateError):
    """No transition leads from a run's state to the state a command requires."""

    def __init__(self, run: str, state: RunState, command: Command, wanted: RunState) -> None:
        super().__init__(run, state, command)
        self.wanted = wanted


def require(run: str, state: RunState, command: Command) -> None:
    """Raise unless a run in this state accepts a command, or is already in the state the command leads to.

    Raises:
        IllegalTransitionError: the command changes the run's state, and no transition leads there from this one.
        WrongStateError: the command doesn't change the state, and doesn't apply to runs in this one.
    """
    wanted = TARGETS.get(command)
    if state in ACCEPTS[command] or state == wanted:
        return
    if wanted is None:
        raise WrongStateError(run, state, command)
    raise IllegalTransitionError(run, state, command, wanted)
