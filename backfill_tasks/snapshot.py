"""A run at one moment: its state in the ledger, why its lanes don't move, and what the host does with its jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from backfill_tasks.engine.admission.bound import Bound
from backfill_tasks.engine.admission.indicators import Reading
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.engine.road import Road
from backfill_tasks.forecast.answer import Forecast, WhatIf


def listed(run: Run, backfill: Backfill | None) -> dict[str, Any]:
    """Return a run as `runs --json` lists it: its state in the ledger, and the reasons of its lanes.

    If its backfill is missing because the package is gone, the classes are those that the run has counted so far.
    """
    shown = ("read", *backfill.classes, "quarantined") if backfill else tuple(run.counts)
    if backfill and run.mode == "dry-run":
        shown = (*shown, *backfill.passed_over)
    content = run.as_json(shown, backfill.jobs if backfill else ())
    content["leads_per_second"] = content.pop("items_per_second")  # the name that scripts expect
    return content


@dataclass(frozen=True)
class BoundInForce:
    """The bound of a run that is sized to the host's drain, and why it is what it is, in words."""

    bound: Bound
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return the bound as `status --json` prints it (docs/reference/json.md)."""
        return {
            "jobs": self.bound.offer,
            "per_call": round(self.bound.capacity),
            "live_per_call": round(self.bound.live_per_call, 1),
            "call_seconds": round(self.bound.calls.seconds, 3),
            "starved_seconds": round(self.bound.starved_seconds),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        run: the run in the ledger; each lane that doesn't move carries its reason.
        backfill: the run's backfill.
        host: what the host has done with the run's jobs; None: the backfill has no jobs, or they can't be counted just
            now.
        small_pages: why pages are smaller than the run's options allow, in words; None: they aren't.
        bound: the bound on jobs in the host's queue, if it is sized to the host's drain.
        forecast: when the last lead has its score; None: the backfill has no jobs, or their state can't be read now.
        what_ifs: forecasts with other options, as asked, or those that suggest themselves.
    """

    run: Run
    backfill: Backfill
    host: Outcome | None = None
    small_pages: str | None = None
    bound: BoundInForce | None = None
    forecast: Forecast | None = None
    what_ifs: Sequence[WhatIf] = ()

    @property
    def road(self) -> Road | None:
        """How far the run's items have come; None: a dry run moves none."""
        return Road.of(self.backfill, self.run, self.host) if self.run.mode == "apply" else None

    @property
    def has_items_on_their_way(self) -> bool:
        """Whether the run is complete, and an item may still get its result by itself.

        True while the jobs can't be counted; False for a run whose record doesn't tell its jobs.
        """
        road = self.road
        if road is None or not road.is_read or not road.enqueued or (self.host is not None and not self.host.known):
            return False
        return road.waiting is None or road.waiting > (self.host.never_due if self.host else 0)

    def as_json(self) -> dict[str, Any]:
        """Return the run as `run --json` and `status --json` print it (docs/reference/json.md)."""
        return {
            **listed(self.run, self.backfill),
            "road": self.road.as_json() if self.road else None,
            "host": self.host and self.host.as_json(self.run.jobs_to_come(self.backfill.jobs)),
            "small_pages": self.small_pages,
            "bound": self.bound.as_json() if self.bound else None,
            "forecast": self.forecast.as_json() if self.forecast else None,
            "what_ifs": [each.as_json() for each in self.what_ifs],
        }


def why_small(run: Run, backfill: Backfill, limited: Reading | None) -> str | None:
    """Return why pages are small, unless the run's limit or its room in the host's queue already makes them so."""
    if limited is None or limited.limit is None or run.state != "running":
        return None
    room = run.parameters.pace.max_pending if backfill.jobs else None
    most = room if isinstance(room, int) else inf
    return limited.reason if limited.limit < min(run.parameters.limit, most) else None
