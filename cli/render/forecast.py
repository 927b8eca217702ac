"""The forecast in words: the interval, and alternatives one per line."""

from collections.abc import Iterable
from math import ceil, floor

from backfill_tasks.cli.render.text import wrapped
from backfill_tasks.forecast.answer import Forecast, WhatIf

#: The units of an interval, largest first: seconds in one, and the name of one.
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))

#: Fewer than this many of a unit are told in the next smaller one, so that rounding changes little.
_LEAST = 3


def interval(found: Forecast) -> str:
    """Return the interval in one unit: "5 to 7 days", "about 4 hours"; else why there is none, in a word or two."""
    if found.state == "done":
        return "done"
    if found.earliest_seconds is None or found.latest_seconds is None:
        return "no end by itself" if found.state == "never" else "can't be told yet"
    seconds, name = next((each for each in _UNITS if found.latest_seconds >= _LEAST * each[0]), _UNITS[-1])
    earliest, latest = floor(found.earliest_seconds / seconds), max(1, ceil(found.latest_seconds / seconds))
    if earliest == latest:
        return f"about {latest:,} {name}{'s' * (latest != 1)}"
    return f"{earliest:,} to {latest:,} {name}s"


def forecast_line(found: Forecast) -> str:
    """Return the interval and what binds: "5 to 7 days: the host takes 12 of our jobs a minute"."""
    return f"{interval(found)}: {found.reason}" if found.reason else interval(found)


def what_if_lines(found: Iterable[WhatIf], *, indent: int) -> list[str]:
    """Return one line per alternative: "at --max-pending 18: 5 to 7 days"; longer ones are wrapped."""
    return [wrapped(f"{each.label}: {interval(each.forecast)}{_why(each.forecast)}", indent=indent) for each in found]


def _why(found: Forecast) -> str:
    """Return the reason of an alternative that has no interval; the others need none."""
    return f", {found.reason}" if found.state in ("unknown", "never") else ""
