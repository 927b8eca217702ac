"""The distribution of a run's results, drawn with plain characters in 80 columns."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from backfill_tasks.cli.render.text import WIDTH, counted, share, wrapped
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.distribution import OTHER, Distribution, Group
from backfill_tasks.engine.model import Run
from backfill_tasks.escaping import one_line

#: A bar's characters: whole cells, and the part of a cell, in eighths.
_FULL, _EIGHTHS = "█", " ▏▎▍▌▋▊▉"

#: The shades of a stacked bar, from the lowest result to the highest; further results share the last one.
_SHADES, _STRANGE = "░▒▓█", "?"

#: The longest bar of one result, and the shortest and the longest stacked bar of a group, in columns.
_LONGEST, _SHORTEST_STACK, _LONGEST_STACK = 40, 8, 24

#: The most columns that a group's name takes, a UUID's; if fewer than the least are left, shares stand for numbers.
_NAME, _LEAST_NAME = 36, 13


def distribution_lines(backfill: Backfill, run: Run, found: Distribution, *, most: int = 10) -> list[str]:
    """Return a distribution as a bar for each result and a line for each of the `most` largest groups."""
    whole = found.whole
    kinds = f"{counted(len(found.groups), f'{found.kind}s')}"
    lines = [f"{backfill.result.capitalize()}s of run {run.id}: {counted(whole.items, backfill.items)} in {kinds}"]
    if whole.items:
        lines += ["", *_bars(backfill, found, whole), "", *_notes(backfill, found, whole)]
        lines += ["", *_groups(found, whole, most)]
    return lines


def _bars(backfill: Backfill, found: Distribution, whole: Group) -> Iterator[str]:
    """Yield one line for each result: how many items have it, their share, a bar, and the share of others that do."""
    others = sum(whole.beside.values())
    yield f"  {backfill.result:<10}{backfill.items:>11}" + (f"{'others':>{WIDTH - 23}}" if others else "")
    longest = max(whole.without, *(whole.results.get(name, 0) for name in found.results))
    for name in found.results:
        number = whole.results.get(name, 0)
        head = f"  {name:<10}{number:>11,}{share(number, whole.items):>7}  "
        line = head + _bar(number, longest, _LONGEST)
        beside = share(whole.beside.get(name, 0), others) if others else ""
        yield f"{line:<{WIDTH - 8}}{beside:>8}".rstrip()
    if whole.without:
        missing = share(whole.without, whole.items)
        yield f"  {'none yet':<10}{whole.without:>11,}{missing:>7}  {_bar(whole.without, longest, _LONGEST)}".rstrip()


def _notes(backfill: Backfill, found: Distribution, whole: Group) -> list[str]:
    """Return where the results come from, and what the others are."""
    notes = [f"{found.origins}." if found.origins else f"No {backfill.items} have a {backfill.result} yet."]
    if others := sum(whole.beside.values()):
        have = f"the {counted(others, backfill.items)} with a {backfill.result} in the same {found.kind}s"
        notes.append(f"others: {have} that aren't the run's.")
    if found.rest:
        noun = counted(found.rest, f"more {backfill.items}")
        verb = "isn't" if found.rest == 1 else "aren't"
        why = "left alone, quarantined, gone, or changed since"
        notes.append(f"{noun} that the run has read {verb} counted: {why}.")
    return [wrapped(each, indent=2) for each in notes]


def _groups(found: Distribution, whole: Group, most: int) -> Iterator[str]:
    """Yield one line for each of the largest groups: its name, its counts and a stacked bar."""
    heads = [f"{_shade(at, name)} {name}" for at, name in enumerate(found.results)]
    columns = [*heads, *(["none"] if whole.without else [])]
    shown = found.groups[:most]
    numbers = [_counts(found, whole, each) for each in shown]
    rows = [[f"{number:,}" for number in row] for row in numbers]
    if _room(columns, rows) < _LEAST_NAME:
        rows = [[share(number, each.items) for number in row] for each, row in zip(shown, numbers, strict=True)]
    widths = _widths(columns, rows)
    names = [_fitted(each.name, min(_NAME, _room(columns, rows))) for each in shown]
    longest = max(_cells(each) for each in [found.kind, *names])
    stack = min(_LONGEST_STACK, WIDTH - 4 - longest - sum(widths))
    yield f"  {found.kind:<{longest}}{_aligned(columns, widths)}"
    for group, name, row in zip(shown, names, rows, strict=True):
        head = f"  {name}{' ' * (longest - _cells(name))}{_aligned(row, widths)}"
        yield f"{head}  {_stack(found.results, group, stack)}".rstrip()
    if len(found.groups) > len(shown):
        yield f"  … and {len(found.groups) - len(shown):,} more"


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[at]) for row in [columns, *rows]) + 2 for at in range(len(columns))]


def _room(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return how many columns of the terminal the numbers and the shortest bar leave for a name."""
    return WIDTH - 4 - _SHORTEST_STACK - sum(_widths(columns, rows))


def _counts(found: Distribution, whole: Group, group: Group) -> list[int]:
    return [*(group.results.get(name, 0) for name in found.results), *([group.without] if whole.without else [])]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _bar(number: int, longest: int, columns: int) -> str:
    """Return a bar to an eighth of a column; a number above zero is always visible."""
    eighths = max(round(8 * columns * number / longest), 1 if number else 0)
    return _FULL * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _stack(results: Sequence[str], group: Group, columns: int) -> str:
    """Return a group's results side by side, in shades, in exactly so many columns; empty without results."""
    if not group.done:
        return ""
    edges = [round(columns * sum(_of(group.results, results[: at + 1])) / group.done) for at in range(len(results))]
    shades = [_shade(at, name) for at, name in enumerate(results)]
    return "".join(shade * (edge - start) for shade, start, edge in zip(shades, [0, *edges], edges, strict=False))


def _shade(at: int, name: str) -> str:
    return _STRANGE if name == OTHER else _SHADES[min(at, len(_SHADES) - 1)]


def _of(counts: Mapping[str, int], names: Sequence[str]) -> Iterator[int]:
    return (counts.get(name, 0) for name in names)


def _fitted(name: str, columns: int) -> str:
    """Return a name on one line, cut to so many columns of a terminal."""
    shown = one_line(name[: 4 * columns])
    if _cells(shown) <= columns:
        return shown
    while _cells(shown) > columns - 1:
        shown = shown[:-1]
    return f"{shown}…"


def _cells(text: str) -> int:
    """Return how many columns of a terminal a text takes: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in {"W", "F"} else 1
        for each in text
    )
