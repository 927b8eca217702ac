"""Building blocks of the operator's text: durations, names, values, wrapped lines and tables.

`table` is written by hand: a `rich.table.Table` takes as many lines of code, and importing rich costs `backfill runs`
and `backfill status` 20 ms of CPU. Only the live display uses rich (cli/watch.py).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from textwrap import fill

from backfill_tasks.escaping import one_line

WIDTH = 80


def duration(seconds: float) -> str:
    """Return a duration for a reader: 4.2 s, 3 min 20 s, 5 h 10 min, 11 d 3 h."""
    if round(seconds, 1) < 60:  # noqa: PLR2004  seconds per minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(at: datetime) -> str:
    """Return a moment in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def share(number: int, of: int) -> str:
    """Return a share of a whole in percent, rounded: 12 %."""
    return f"{100 * number / of:.0f} %"


def spaced(name: str) -> str:
    """Return a name with spaces for underscores."""
    return name.replace("_", " ")


def counted(number: int, plural: str) -> str:
    """Return a number with its noun: 1 lead, 2 leads. `plural`: a regular plural."""
    return f"{number:,} {plural if number != 1 else _singular(plural)}"


def _singular(plural: str) -> str:
    return plural.removesuffix("ies") + "y" if plural.endswith("ies") else plural.removesuffix("s")


def in_words(value: object, *, empty: str = "") -> str:
    """Return a parameter's or detail's value for a reader; `empty` if it is None."""
    match value:
        case None:
            return empty
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.6f}".rstrip("0").rstrip(".")
        case int():
            return f"{value:,}"
        case list():
            return " ".join(str(each) for each in value)
    return str(value)


def shortened(text: str, most: int) -> str:
    """Return a text on one line, escaped, and cut to `most` characters."""
    shown = one_line(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def wrapped(said: str, *, indent: int, first: str | None = None) -> str:
    """Wrap text to 80 columns, indented; `first` replaces the indentation of the first line.

    Options are never broken at their hyphens, so that commands can be copied.
    """
    margin = " " * indent
    return fill(
        said, WIDTH, initial_indent=margin if first is None else first, subsequent_indent=margin, break_on_hyphens=False
    )


def with_reason(item: str, reason: str, *, indent: int, most: int = 400) -> str:
    """Return an item and its reason on one line of 80 columns, or the reason below the item."""
    head, said = f"{' ' * indent}{one_line(item)}", shortened(reason, most)
    whole = f"{head}  {said}"
    return whole if len(whole) <= WIDTH else f"{head}\n{wrapped(said, indent=indent + 4)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows in aligned columns; the last column may have any length."""
    every = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every
    )
