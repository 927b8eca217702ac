"""The distribution of a run's results, prepared for the report's page: names, numbers and pieces of bars."""

from collections.abc import Sequence
from dataclasses import dataclass

from backfill_tasks.cli.render.text import share
from backfill_tasks.engine.distribution import OTHER, Distribution, Group

#: The most groups that a page lists.
_MOST = 200

#: The name of the items without a result, and the results that have a shade of their own.
_NONE, _SHADED = "none yet", 4


@dataclass(frozen=True)
class Piece:
    """A piece of a bar. `start` and `length` are percentages of the bar's width."""

    start: float
    length: float
    shade: str


@dataclass(frozen=True)
class Bar(Piece):
    """A result's bar with its numbers. `others`: the share of the other items that have this result."""

    name: str
    items: int
    share: str
    others: str


@dataclass(frozen=True)
class Row:
    """A group with its counts and its bar."""

    name: str
    items: int
    counts: Sequence[int]
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Chart:
    """What the page shows of a distribution."""

    kind: str
    items: int
    bars: Sequence[Bar]
    others: int
    sources: str
    rest: int
    columns: Sequence[str]
    groups: Sequence[Row]
    more: int


def chart(found: Distribution) -> Chart:
    """Return what the page shows of a distribution."""
    whole = found.whole
    names = [*found.results, *([_NONE] if whole.without else [])]
    return Chart(
        kind=found.kind,
        items=whole.items,
        bars=_bars(names, whole),
        others=sum(whole.beside.values()),
        sources=f"{found.origins}." if found.origins else "",
        rest=found.rest,
        columns=names,
        groups=[_row(names, each) for each in found.groups[:_MOST]],
        more=max(0, len(found.groups) - _MOST),
    )


def _bars(names: Sequence[str], whole: Group) -> list[Bar]:
    counts = [_count(name, whole) for name in names]
    longest, others = max(counts), sum(whole.beside.values())
    return [
        Bar(
            start=0,
            length=_percent(count, longest),
            shade=_shade(at, name),
            name=name,
            items=count,
            share=_share(count, whole.items),
            others=_share(whole.beside.get(name, 0), others) if name != _NONE else "",
        )
        for at, (name, count) in enumerate(zip(names, counts, strict=True))
    ]


def _row(names: Sequence[str], group: Group) -> Row:
    counts = [_count(name, group) for name in names]
    starts = [sum(counts[:at]) for at in range(len(counts))]
    pieces = [
        Piece(_percent(start, group.items), _percent(count, group.items), _shade(at, name))
        for at, (name, start, count) in enumerate(zip(names, starts, counts, strict=True))
        if count
    ]
    return Row(group.name, group.items, counts, pieces)


def _count(name: str, group: Group) -> int:
    return group.without if name == _NONE else group.results.get(name, 0)


def _shade(at: int, name: str) -> str:
    if name in {_NONE, OTHER}:
        return name.partition(" ")[0]
    return str(min(at + 1, _SHADED))


def _percent(number: int, of: int) -> float:
    return round(100 * number / of, 2) if of else 0.0


def _share(number: int, of: int) -> str:
    return share(number, of) if of else ""
