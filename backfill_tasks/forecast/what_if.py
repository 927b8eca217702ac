"""Forecasts with other options: the same model, with what the change does to the run's bounds and the drain's rate.

The history shows how fast the drain is with the present options. Another bound changes that in proportion to the room
that it leaves at a call (`room.py`). Where no call has been full, how much more the host takes isn't known: the
forecast then reaches from "as much as the new bound allows" to "no more than now".
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backfill_tasks.engine.contract import Backfill
from backfill_tasks.errors import UsageError
from backfill_tasks.forecast.answer import Forecast, WhatIf
from backfill_tasks.forecast.paths import Factor, unchanged
from backfill_tasks.forecast.road import forecast
from backfill_tasks.forecast.room import Room, room
from backfill_tasks.forecast.situation import Situation
from backfill_tasks.kinds import Number, Whole
from backfill_tasks.options import Option, OptionError, tunable
from backfill_tasks.scoring.parameters import MOST_IN_A_BATCH, MOST_MONEY, MOST_PARALLEL

#: The options of `backfill work` that a forecast takes.
WORK_OPTIONS: Mapping[str, Option] = {
    each.name: each
    for each in (
        Option("parallel", Whole(1, MOST_PARALLEL), "Batches in progress at once, over all workers."),
        Option("concurrency", Whole(1, MOST_IN_A_BATCH), "Requests of a batch in flight at once."),
        Option("max_spend", Number(0.000_001, MOST_MONEY), "The budget of the session."),
    )
}

#: The bounds whose effect the model knows, and the other tunable options, which change nothing unless pages decide.
_PACE = ("max_pending", "jobs_per_minute", "max_jobs")
_PAGES = ("limit", "page_delay_ms", "target_page_ms")

#: A pace that was measured in another session comes again within so much, either way.
_ABOUT = 1.25


def what_if(found: Situation, changes: Mapping[str, Any]) -> WhatIf:
    """Return the forecast of a situation with other values of tunable options, whose values are valid."""
    return WhatIf(dict(changes), f"at {_typed(changes)}", _changed(found, changes))


def suggestions(found: Situation, now: Forecast) -> Sequence[WhatIf]:
    """Return the alternatives that suggest themselves: at most two, and only such as have an interval."""
    tried = []
    if now.state == "told" and now.binds == "max pending" and isinstance(found.bound, int):
        tried.append(what_if(found, {"max_pending": 2 * found.bound}))
    if now.state == "told" and now.binds == "rate" and found.pace.jobs_per_minute is not None:
        tried.append(what_if(found, {"jobs_per_minute": 2 * found.pace.jobs_per_minute}))
    if now.state == "told" and now.binds != "scoring" and not found.scoring.running:
        tried.append(_with_workers(found))
    if now.state == "never" and now.binds == "budget" and found.pace.max_jobs is not None:
        tried.append(what_if(found, {"max_jobs": None}))
    return [each for each in tried if each.forecast.state == "told"][:2]


def _changed(found: Situation, changes: Mapping[str, Any]) -> Forecast:
    changed = _with_pace(found, {name: value for name, value in changes.items() if name in _PACE})
    changed = _with_budget(changed, changes)
    unknown = _unknown(found, changes)
    if unknown is not None:
        return unknown
    same = forecast(changed)
    if same.state != "told":
        return same  # whatever the drain's rate is
    factors = [_of_bounds(found, changed), _of_workers(found, changes)]
    for each in factors:
        if isinstance(each, Forecast):
            return each
    least, most = (math.prod(each[end] for each in factors if not isinstance(each, Forecast)) for end in (0, 1))
    return forecast(changed, factor=between(least, most))


def between(least: float, most: float) -> Factor:
    """Return a factor that is anything between two values, each of their ratios being as likely as another."""
    if (least, most) == (1.0, 1.0):
        return unchanged
    low, high = math.log(max(least, 1e-9)), math.log(max(most, 1e-9))

    def draw(chance: random.Random) -> float:
        return math.exp(chance.uniform(low, high))

    return draw


def _typed(changes: Mapping[str, Any]) -> str:
    """Return changes as they are typed."""
    return " ".join(f"--{name.replace('_', '-')} {_value(value)}" for name, value in changes.items())


def _value(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _with_pace(found: Situation, changes: Mapping[str, Any]) -> Situation:
    pace = replace(found.pace, **changes)
    spacing = found.spacing_seconds
    if "jobs_per_minute" in changes:
        spacing = None if pace.spacing_ms is None else pace.spacing_ms / 1000
    return replace(found, pace=pace, spacing_seconds=spacing)


def _with_budget(found: Situation, changes: Mapping[str, Any]) -> Situation:
    scoring = found.scoring
    if "max_spend" not in changes or not scoring.cost:
        return found
    reach = max(0.0, (changes["max_spend"] - scoring.spent) / scoring.cost)
    return replace(found, scoring=replace(scoring, reach=reach))


def _unknown(found: Situation, changes: Mapping[str, Any]) -> Forecast | None:
    """Return why the model can't tell what changes do; None: it can."""
    if any(name in WORK_OPTIONS for name in changes) and not found.scoring.running:
        return Forecast.unknown("scoring", f"{found.scoring.reason}, so no pace is known")
    if "max_spend" in changes and not found.scoring.cost:
        return Forecast.unknown("scoring", "what a lead costs isn't known yet")
    known = {*_PACE, *_PAGES, *WORK_OPTIONS}
    others = sorted(changes.keys() - known)
    if others:
        return Forecast.unknown("unmeasured", f"what {_flags(others)} changes can't be told before it is tried")
    pages = [name for name in _PAGES if name in changes]
    if pages and forecast(found).binds == "pages":
        return Forecast.unknown("pages", f"what {_flags(pages)} changes can't be told before it is tried")
    return None


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _of_bounds(found: Situation, changed: Situation) -> tuple[float, float] | Forecast:
    """Return the least and the greatest factor by which other bounds change the drain's rate."""
    same = (changed.pace.max_pending, changed.pace.jobs_per_minute) == (
        found.pace.max_pending,
        found.pace.jobs_per_minute,
    )
    if same or (found.reserved and found.scoring.running):
        return 1.0, 1.0
    old, new = room(found.drain, found.pace), room(found.drain, changed.pace)
    return _ratio(_measured(found, old), new)


def _measured(found: Situation, old: Room) -> float:
    """Return how many of our jobs a call takes now: as its history shows, or else as its bounds have it."""
    seen = found.history
    return old.least or (0.0 if seen is None else seen.now.rate * found.drain.call_seconds)


def _ratio(now: float, new: Room) -> tuple[float, float] | Forecast:
    if not now:
        return Forecast.unknown("live queue", "no call has left room for our jobs, so nothing shows what more would do")
    if new.most is None:
        more = f"whether the host takes more than {now:,.0f} of our jobs a call hasn't been seen"
        return Forecast.unknown("unmeasured", f"{more}: `--max-pending auto` finds out")
    if new.most < 1:
        return Forecast.never("max pending", "live jobs alone fill it")
    return min(new.least, new.most) / now, max(new.least, new.most) / now


def _of_workers(found: Situation, changes: Mapping[str, Any]) -> tuple[float, float]:
    """Return the factors by which more or fewer workers change the pace: in proportion, or not at all."""
    ratio = 1.0
    for name in ("parallel", "concurrency"):
        ratio *= changes.get(name, 1) / (getattr(found.scoring, name) or 1) if name in changes else 1.0
    return min(1.0, ratio), max(1.0, ratio)


def _with_workers(found: Situation) -> WhatIf:
    """Return the forecast of our own workers joining, as fast as they were in the newest session."""
    label, seen = "with `backfill work`", found.history
    if seen is None or not found.scoring.per_minute or not seen.now.rate:
        return WhatIf({}, label, Forecast.unknown("scoring", "our workers' pace isn't known yet"))
    more = found.scoring.per_minute / (60 * seen.now.rate)
    free = replace(found, due_seconds=0.0, spacing_seconds=None)
    return WhatIf({}, label, forecast(free, factor=between(1 + more / _ABOUT, 1 + more * _ABOUT)))


def require_alternative(backfill: Backfill, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes of a run's options, or of `backfill work`, with their values checked.

    Raises:
        UsageError: there is no such option, it can't be tuned, it has no meaning for the backfill, or it rejects its
            value.
    """
    known = {**tunable(backfill.options), **WORK_OPTIONS}
    unknown = sorted(changes.keys() - known.keys())
    if unknown:
        raise UsageError(f"{', '.join(unknown)} can't be forecast. These can: {', '.join(known)}")
    for name in changes:
        if not backfill.jobs:
            raise UsageError(f"{name}: {backfill.name} enqueues no jobs: there is nothing to forecast")
    try:
        return {name: known[name].check(value) for name, value in changes.items()}
    except OptionError as error:
        raise UsageError(str(error)) from None
