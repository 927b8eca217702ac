"""A run's throughput, page duration and waits, plotted over one time axis."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO
from itertools import accumulate, cycle
from math import nan
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from backfill_tasks.engine.ledger import Bucket, Hold, Span

#: Colours that colour-blind readers can tell apart, legible on white, on black and on paper (M. Okabe, K. Ito: Color
#: Universal Design, 2008). Yellow and black are left out: each vanishes on one of the backgrounds.
_BLUE, _ORANGE = "#0072B2", "#E69F00"
_HOLDS = ("#D55E00", "#009E73", "#CC79A7", "#56B4E9", _ORANGE, _BLUE)
_PAUSE = "#8A8A8A"

#: A placeholder for the page's text colour: the browser fills it in.
_INK = "#0a0b0c"

#: Text stays text, in the page's font, and the same run yields the same file.
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "backfill",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
}

#: If the longest page takes this many times the median, the axis is logarithmic, so that the median stays readable.
_FAR = 20.0

#: A throughput below this many items per second is shown per minute.
_SLOW = 1.0

#: Above this many points the markers are small, so that they don't overlap.
_MANY = 60

#: Tick labels from years down to microseconds, in ISO 8601 order; the labels at a boundary (a month's first day,
#: midnight, a full minute); and the part that all ticks share, shown below the axis.
_TICKS = ("%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M:%S", "%H:%M:%S.%f")
_BOUNDARIES = ("", "%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M:%S")
_SHARED = ("", "", "%Y", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d")

#: Sizes in inches, 72 points each.
_WIDTH, _PLOT, _ROW, _MARGIN = 10.0, 2.2, 0.28, 0.8


def draw(
    time: Span, buckets: Sequence[Bucket], *, holds: Sequence[Hold], pauses: Sequence[Span], items: str
) -> str | None:
    """Return the plot as a self-contained SVG element; None if there is nothing to show.

    Args:
        time: the run's time, which is the axis.
        buckets: its pages, grouped by stretches of that time.
        holds: what pages were postponed for.
        pauses: when the run was paused.
        items: the name of its items, in the plural.
    """
    if not (any(bucket.pages for bucket in buckets) or holds):
        return None
    rows = [*(hold.kind for hold in holds), *(["paused"] if pauses else [])]
    heights = [_PLOT, _PLOT, *([_ROW * len(rows)] if rows else [])]
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, sum(heights) + _MARGIN), layout="constrained")
        axes: list[Axes] = list(figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0])
        _throughput(axes[0], buckets, items)
        _durations(axes[1], buckets)
        if rows:
            _waits(axes[2], holds, pauses)
        for each in axes[:2]:
            _shade(each, pauses)
            each.grid(visible=True, axis="y")
        for each in axes:
            each.grid(visible=True, axis="x")
        _time_axis(axes[-1], time)
        figure.align_ylabels(axes[:2])
        return _as_element(
            figure, f"Throughput in {items} per second, page duration and waits over the time of the run"
        )


def draw_road(time: Span, buckets: Sequence[Bucket], results: Sequence[int], *, items: str, done: str) -> str:
    """Return the plot of how many items were read, and how many had their result, as a self-contained SVG element.

    Args:
        time: from the run's start until now, which is the axis.
        buckets: its pages, grouped by stretches of the run's own time.
        results: how many items got their result in equal stretches of `time`.
        items: the name of its items, in the plural.
        done: the participle for those that have their result.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, _PLOT + _MARGIN), layout="constrained")
        axes = figure.subplots()
        ends = [buckets[0].span.since, *(bucket.span.until for bucket in buckets), time.until]
        read = [0, *accumulate(bucket.items for bucket in buckets)]
        axes.plot([_number(end) for end in ends], [*read, read[-1]], color=_BLUE, linewidth=1.2, label="read")
        width = (time.until - time.since) / len(results)
        edges = [_number(time.since + width * index) for index in range(len(results) + 1)]
        has_result = [0, *accumulate(results)]
        axes.plot(edges, has_result, color=_ORANGE, linewidth=1.2, linestyle="--", label=done)
        axes.fill_between(edges, has_result, color=_ORANGE, alpha=0.25, linewidth=0)
        axes.set_ylabel(items)
        axes.grid(visible=True)
        axes.legend(loc="upper left", ncols=2, bbox_to_anchor=(0, 1.14), borderaxespad=0)
        _from_zero(axes)
        _time_axis(axes, time)
        return _as_element(figure, f"How many {items} were read and how many were {done} over time")


def _throughput(axes: Axes, buckets: Sequence[Bucket], items: str) -> None:
    """Draw the throughput as steps: each stretch's items, spread over its length."""
    rates = [bucket.items / bucket.span.seconds for bucket in buckets]
    per, factor = ("min", 60) if max(rates) < _SLOW else ("s", 1)
    edges = [_number(buckets[0].span.since), *(_number(bucket.span.until) for bucket in buckets)]
    axes.stairs([factor * rate for rate in rates], edges, fill=True, color=_BLUE, alpha=0.25, linewidth=0)
    axes.stairs([factor * rate for rate in rates], edges, color=_BLUE, linewidth=1.2)
    axes.set_ylabel(f"throughput ({items}/{per})")
    _from_zero(axes)


def _durations(axes: Axes, buckets: Sequence[Bucket]) -> None:
    """Draw the median and the longest page of each stretch, distinct in colour and in shape."""
    middles = [(_number(bucket.span.since) + _number(bucket.span.until)) / 2 for bucket in buckets]
    size = 1.2 if len(buckets) > _MANY else 3
    longest = [nan if bucket.longest is None else 1000 * bucket.longest for bucket in buckets]
    median = [nan if bucket.median is None else 1000 * bucket.median for bucket in buckets]
    axes.plot(middles, longest, color=_ORANGE, marker="^", markersize=size, linewidth=0.8, label="longest")
    axes.plot(middles, median, color=_BLUE, marker="o", markersize=size, linewidth=1.2, label="median")
    axes.set_ylabel("page duration (ms)")
    known = [(bucket.median, bucket.longest) for bucket in buckets if bucket.median and bucket.longest]
    if known and max(most for _, most in known) > _FAR * min(middle for middle, _ in known):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    else:
        _from_zero(axes)
    axes.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.14), borderaxespad=0)


def _waits(axes: Axes, holds: Sequence[Hold], pauses: Sequence[Span]) -> None:
    """Draw one row per kind of reason, and one for the pauses: when at least one page waited for it."""
    rows = [(hold.kind, hold.stretches, colour) for hold, colour in zip(holds, cycle(_HOLDS), strict=False)]
    if pauses:
        rows.append(("paused", tuple(pauses), _PAUSE))
    for number, (_, spans, colour) in enumerate(rows):
        for span in spans:
            # The outline keeps a bar visible that is narrower than a pixel.
            since, until = _number(span.since), _number(span.until)
            axes.barh(number, until - since, left=since, height=0.6, color=colour, edgecolor=colour, linewidth=1)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _shade(axes: Axes, pauses: Sequence[Span]) -> None:
    for pause in pauses:
        axes.axvspan(_number(pause.since), _number(pause.until), color=_PAUSE, alpha=0.3, linewidth=0.5)


def _time_axis(axes: Axes, time: Span) -> None:
    """Show exactly the run's time, in UTC."""
    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        ConciseDateFormatter(locator, tz=UTC, formats=_TICKS, zero_formats=_BOUNDARIES, offset_formats=_SHARED)
    )
    axes.set_xlim(_number(time.since), _number(time.until))
    axes.set_xlabel("time (UTC)")


def _from_zero(axes: Axes) -> None:
    """Start the y axis at zero, with few ticks at round numbers, written in full."""
    axes.set_ylim(0, axes.get_ylim()[1] if axes.dataLim.ymax > 0 else 1)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.7g}"))


def _number(moment: datetime) -> float:
    """Return a moment as matplotlib's date number."""
    return float(date2num(moment))


def _as_element(figure: Figure, title: str) -> str:
    """Return the figure as an inline SVG element: no prologue, no metadata, the page's text colour."""
    written = StringIO()
    figure.savefig(
        written, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    svg = written.getvalue()
    element = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    return element.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
