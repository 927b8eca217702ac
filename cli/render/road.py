"""The road in words: how many of a run's items are enqueued, how many have their result, and when the last has it."""

from collections.abc import Mapping
from dataclasses import dataclass

from backfill_tasks.cli.render.forecast import forecast_line, interval
from backfill_tasks.cli.render.text import WIDTH, counted, duration, shortened, spaced, wrapped
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.engine.road import Road
from backfill_tasks.forecast.answer import Forecast

#: The width of a progress bar, in columns.
_BAR = 24

#: Jobs counted longer ago than this many seconds are shown with their age: counting takes longer the more there are, so
#: it is done more seldom.
_OLD_SECONDS = 15.0

#: What waiting jobs wait for, in display order.
_WAITING: Mapping[str, str] = {"due": "due", "later": "not due yet", "running": "running", "never_due": "never due"}


def bars(backfill: Backfill, road: Road) -> list[str]:
    """Return a bar for the enqueued items and one for those with their result; without jobs, only the latter."""
    if not road.has_jobs:
        return [_bar(backfill.done, road.at_once, road.eligible, is_counted=road.is_counted, items=backfill.items)]
    total, found = road.to_enqueue, road.outcome
    enqueued = _bar("enqueued", road.enqueued, total, is_counted=road.is_counted, items=backfill.items)
    if found is None:
        return [enqueued, f"{backfill.done:<9}not counted yet"]
    return [enqueued, _bar(backfill.done, found.done, total, is_counted=road.is_counted, items=backfill.items)]


def bar(share: float) -> str:
    """Return a bar for a share from 0 to 1. Only a whole share fills it."""
    full = int(_BAR * share)
    return "█" * full + "░" * (_BAR - full)


def percent(share: float) -> str:
    """Return a share in percent, rounded down: 100% means all."""
    return f"{int(100 * share)}%"


def headline(backfill: Backfill, road: Road) -> str:
    """Return in one sentence where a complete run stands. Empty if it has enqueued nothing."""
    items, result, found = backfill.items, backfill.result, road.outcome
    if not road.has_jobs or not road.enqueued:
        return ""
    if found is None:
        return f"Enqueuing is complete. How many {items} are {backfill.done} can't be counted now."
    if road.waiting:
        return f"Enqueuing is complete: {still_waiting(backfill, road.waiting)}."
    if found.without_result:
        return f"All jobs have ended, and {counted(found.without_result, items)} got no {result}."
    if found.taken_over:
        return f"This run's jobs have all ended. A later run has enqueued {counted(found.taken_over, items)} again."
    return f"All enqueued {items} are {backfill.done}."


def still_waiting(backfill: Backfill, number: int) -> str:
    """Return in words how many items wait for their result."""
    wait, their = ("waits", "its") if number == 1 else ("wait", "their")
    return f"{counted(number, backfill.items)} still {wait} for {their} {backfill.result}"


def road_lines(
    backfill: Backfill, run: Run, road: Road, forecast: Forecast | None, *, brief: bool = False
) -> list[str]:
    """Return what has become of a run's enqueued items, and when the last has its result.

    `brief`: without the meanings of missing results, for a screen that has few lines.
    """
    if not road.has_jobs:
        return []
    found = road.outcome
    if found is None:
        unknown = "the jobs can't be counted now, or the run is older than the record of its jobs"
        return [wrapped(unknown, indent=32, first=f"  {backfill.done:<16}{'unknown':>11}   ")]
    lines = [
        _line("enqueued", road.enqueued, f"of {_total(road)}"),
        _line(backfill.done, found.done, _joined(found.done_by, backfill.done_by) + _age(run, found)),
    ]
    if found.unended:
        lines.append(_line("waiting", found.unended, _waiting(backfill, run, found)))
    if found.without_result:
        lines += _without(backfill, found, brief=brief)
    if found.taken_over:
        lines.append(_line("taken over", found.taken_over, "a later run has enqueued them again"))
    if found.never_due:
        lines.append(_line("never due", found.never_due, "due in more than 100 years: correct their runAt"))
    if found.unended or road.waiting:
        per_minute = "-" if found.per_minute is None else f"{found.per_minute:,.1f}/min"
        lines.append(f"  {'drain':<16}{per_minute:>11}   jobs of this run that ended lately")
    if forecast is not None and forecast.state != "done":
        lines.append(wrapped(forecast_line(forecast), indent=32, first=f"  {f'last {backfill.result}':<16}{'':>11}   "))
    return lines


def road_line(backfill: Backfill, road: Road, forecast: Forecast | None) -> list[str]:
    """Return the road in one or two lines, for output that isn't a terminal."""
    if not road.has_jobs:
        return []
    found = road.outcome
    if found is None:
        return [f"  enqueued {road.enqueued:,} of {_total(road)} · {backfill.done}: not counted yet"]
    parts = [f"enqueued {road.enqueued:,} of {_total(road)}", f"{backfill.done} {found.done:,}"]
    parts += [f"{found.unended:,} wait{'s' * (found.unended == 1)}"] if found.unended else []
    parts += [f"{found.without_result:,} without a {backfill.result}"] if found.without_result else []
    lines = [shortened(f"  {' · '.join(parts)}", WIDTH)]
    if forecast is not None and forecast.state != "done":
        lines.append(wrapped(end_of_road(backfill, forecast), indent=2))
    return lines


@dataclass(frozen=True)
class Place:
    """A place on the road with its number of items; `depth` 1: part of the last place of depth 0."""

    name: str
    number: int
    meaning: str
    depth: int = 0


def places(backfill: Backfill, road: Road) -> list[Place]:
    """Return every place that has items, in the order of the road."""
    counted = "counted" if road.is_counted else "not counted before the start, so there may be more"
    found = [Place("eligible", road.eligible, counted), Place("read", road.read, "passed by a page", 1)]
    if not road.has_jobs:
        found.append(Place(backfill.done, road.at_once, "", 1))
    else:
        found += [
            Place("at once", road.at_once, f"got their {backfill.result} from the page, without a job", 1),
            Place("left alone", road.left_alone, "their job was not ours to change", 1),
        ]
    found.append(Place("quarantined", road.quarantined, "failed on their own, kept with their error", 1))
    if road.has_jobs:
        found.append(Place("enqueued", road.enqueued, "a page wrote their job"))
    if (outcome := road.outcome) is not None:
        found += _of_jobs(backfill, outcome)
    return [each for each in found if each.number or not each.depth]


def _of_jobs(backfill: Backfill, found: Outcome) -> list[Place]:
    """Return the places of enqueued items."""
    by, reasons = backfill.done_by, backfill.without_result
    done = [Place(f"{backfill.done} {by[name]}", found.done_by.get(name, 0), "", 1) for name in by]
    waiting = [
        Place(f"waiting, {words}", found.waiting.get(name, 0), "their job hasn't ended", 1)
        for name, words in _WAITING.items()
    ]
    without = [Place(spaced(name), found.without.get(name, 0), reasons[name], 1) for name in reasons]
    return [*done, *waiting, *without, Place("taken over", found.taken_over, "a later run has enqueued them again", 1)]


def end_of_road(backfill: Backfill, forecast: Forecast) -> str:
    """Return when the last item has its result, and what decides it."""
    last = f"the last of the {backfill.items} has its {backfill.result}"
    if forecast.state == "told":
        return f"{last} in {interval(forecast)}: {forecast.reason}"
    return f"when {last}: {forecast_line(forecast)}"


def _bar(name: str, number: int, total: int, *, is_counted: bool, items: str) -> str:
    if not is_counted:
        return f"{name:<9}{counted(number, items)}, of a number not counted before the start"
    share = min(1.0, number / total) if total > 0 else 1.0
    return f"{name:<9}{bar(share)} {percent(share):>4}  {number:,} of {counted(total, items)}"


def _total(road: Road) -> str:
    return f"{road.to_enqueue:,}" if road.is_counted else f"at least {road.to_enqueue:,}"


def _line(name: str, number: int, words: str) -> str:
    return wrapped(words, indent=32, first=f"  {name:<16}{number:>11,}   ") if words else f"  {name:<16}{number:>11,}"


def _joined(numbers: Mapping[str, int], words: Mapping[str, str]) -> str:
    """Return the numbers that aren't 0 with their words, separated by commas."""
    return ", ".join(f"{numbers[name]:,} {words[name]}" for name in words if numbers.get(name))


def _waiting(backfill: Backfill, run: Run, found: Outcome) -> str:
    """Return what waiting jobs wait for, and for how long the oldest has been due."""
    is_reserved = not backfill.fills_queue(backfill.with_defaults(run.parameters.options))
    words = {**_WAITING, "later": "reserved"} if is_reserved else _WAITING
    since = "" if found.oldest_seconds is None else f"; the oldest has been due for {duration(found.oldest_seconds)}"
    return f"{_joined(found.waiting, words)}{since}"


def _without(backfill: Backfill, found: Outcome, *, brief: bool) -> list[str]:
    """Return how many items ended without a result, and why."""
    reasons = {name: (found.without.get(name, 0), meaning) for name, meaning in backfill.without_result.items()}
    present = {name: each for name, each in reasons.items() if each[0]}
    words = ", ".join(f"{number:,} {spaced(name)}" for name, (number, _) in present.items())
    lines = [_line(f"no {backfill.result}", found.without_result, words if brief else "")]
    if not brief:
        lines += [f"    {spaced(name):<14}{number:>11,}   {meaning}" for name, (number, meaning) in present.items()]
    return lines


def _age(run: Run, found: Outcome) -> str:
    seconds = (run.seen_at - found.seen_at).total_seconds()
    return f" (counted {duration(seconds)} ago)" if seconds > _OLD_SECONDS else ""
