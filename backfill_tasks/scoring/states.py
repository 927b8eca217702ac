"""The states of a scoring session: the legal transitions, and who makes them.

`SESSION` is the only definition. A transition that isn't listed is refused.
"""

from dataclasses import dataclass
from typing import Literal

SessionState = Literal["running", "stopped", "exhausted", "complete"]

#: The actors of transitions: an operator's command, or the task that does a batch.
Actor = Literal["operator", "batch"]


@dataclass(frozen=True)
class Transition:
    """A legal transition from one state to another."""

    old: SessionState
    new: SessionState
    by: Actor


SESSION: tuple[Transition, ...] = (
    Transition("running", "stopped", "operator"),
    Transition("running", "stopped", "batch"),  # the scorer refuses every request, or can't be used
    Transition("running", "exhausted", "batch"),  # the budget doesn't cover another request
    Transition("running", "complete", "batch"),  # --until-done, and every job of ours has ended
)


def sources(new: SessionState, by: Actor) -> tuple[SessionState, ...]:
    """Return the states from which this actor may move a session into a state."""
    return tuple(each.old for each in SESSION if (each.new, each.by) == (new, by))
