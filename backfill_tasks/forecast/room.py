"""How many of our jobs a call of the host takes, given a run's bounds: the basis of forecasts with other options."""

from dataclasses import dataclass

from backfill_tasks.forecast.situation import Drain
from backfill_tasks.options import Pace

_MINUTE = 60.0


@dataclass(frozen=True)
class Room:
    """How many of our jobs a call takes: at least, and at most; None: nothing shows a limit."""

    least: float
    most: float | None


def room(drain: Drain, pace: Pace) -> Room:
    """Return how many of our jobs a call takes with these bounds.

    A constant bound counts the due live jobs, too: ours get what they leave of it, or of the call if that is less. Due
    times that are spread leave at most so many due per call.
    """
    bounds = []
    if isinstance(pace.max_pending, int):
        bounds.append(max(0.0, pace.max_pending - drain.live))
    if pace.jobs_per_minute is not None:
        bounds.append(pace.jobs_per_minute * drain.call_seconds / _MINUTE)
    least = max(0.0, drain.least - drain.live)
    most = None if drain.most is None else max(0.0, drain.most - drain.live)
    return Room(min([least, *bounds]), min([*([] if most is None else [most]), *bounds], default=None))
