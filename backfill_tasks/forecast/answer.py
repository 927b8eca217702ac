"""The answer: an interval for the end of a run's road, and the constraint that binds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

#: The share of forecasts whose interval contains the truth, as benchmarks/forecast.py measures it.
CONFIDENCE = 0.8

State = Literal["told", "done", "unknown", "never"]
"""`told`: there is an interval; `done`: nothing is left; `unknown`: too early, or a fact is missing; `never`: the last
lead gets no score unless an operator acts."""

Binds = Literal[
    "nothing",  # nothing is left to do
    "drain",  # how many jobs the host takes
    "live queue",  # live jobs take most of what the host takes
    "max pending",  # a constant --max-pending
    "rate",  # --jobs-per-minute or --delay-ms spread the due times
    "pages",  # the rate or the delay of pages: jobs are enqueued more slowly than they are drained
    "scoring",  # our own workers
    "budget",  # --max-jobs or --max-spend ends before the last lead
    "paused",  # the run is paused
    "failed",  # the run has failed
    "never due",  # jobs that come due in over a hundred years
    "stopped",  # the host has taken nothing of ours for a while
    "unmeasured",  # there is nothing to forecast from yet
]


@dataclass(frozen=True)
class Forecast:
    """When the last lead of a run has its score, counted from now.

    Attributes:
        state: whether it can be told.
        binds: the constraint that decides it, in words that never change.
        reason: the same in one sentence for an operator, without a full stop.
        earliest_seconds, latest_seconds: the bounds of the 80 % interval; both None unless the state is `told` or
            `done`.
        reach: how many of the run's leads get a score before a budget ends; None: no budget ends early.
    """

    state: State
    binds: Binds
    reason: str
    earliest_seconds: float | None = None
    latest_seconds: float | None = None
    reach: int | None = None

    @classmethod
    def done(cls, reason: str) -> Self:
        """Return the forecast of a road that has ended."""
        return cls("done", "nothing", reason, 0.0, 0.0)

    @classmethod
    def unknown(cls, binds: Binds, reason: str) -> Self:
        """Return the forecast of what can't be told yet."""
        return cls("unknown", binds, reason)

    @classmethod
    def never(cls, binds: Binds, reason: str, *, reach: int | None = None) -> Self:
        """Return the forecast of a road that doesn't end by itself."""
        return cls("never", binds, reason, reach=reach)

    @classmethod
    def told(cls, earliest: float, latest: float, binds: Binds, reason: str) -> Self:
        """Return an interval in seconds."""
        return cls("told", binds, reason, earliest, latest)

    def as_json(self) -> dict[str, Any]:
        """Return the forecast as `status --json` prints it (docs/reference/json.md)."""
        return {
            "state": self.state,
            "earliest_seconds": None if self.earliest_seconds is None else round(self.earliest_seconds),
            "latest_seconds": None if self.latest_seconds is None else round(self.latest_seconds),
            "confidence": CONFIDENCE,
            "binds": self.binds,
            "reason": self.reason,
            "reach": self.reach,
        }


@dataclass(frozen=True)
class WhatIf:
    """The forecast of a road with changed options.

    Attributes:
        changes: the changed options and their values, by name; empty if a command, not an option, is the change.
        label: the change as an operator types it, such as "--max-pending 18" or "`backfill work`".
        forecast: the forecast with it.
    """

    changes: Mapping[str, Any]
    label: str
    forecast: Forecast

    def as_json(self) -> dict[str, Any]:
        """Return the alternative as `status --json` prints it (docs/reference/json.md)."""
        return {"changes": dict(self.changes), "label": self.label, **self.forecast.as_json()}
