"""The scores of a run's leads, from the rows of distribution.sql."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from sqlalchemy import Row

from backfill_tasks.engine.distribution import OTHER, Distribution, Group
from backfill_tasks.scoring.contract import HIGHEST, LOWEST

SOURCES = MappingProxyType(
    {"here": "scored here", "host": "scored by the host", "disqualified": "disqualified by their tag"}
)

_BESIDE, _BY_TAG = "beside", "tag"
_SCORES = tuple(str(score) for score in range(LOWEST, HIGHEST + 1))


def of(rows: Iterable[Row[Any]], *, read: int) -> Distribution:
    """Return the distribution that rows of workspace, score, source and number of leads describe.

    `read`: how many leads the run has read, in all workspaces.
    """
    results: dict[str, Counter[str]] = defaultdict(Counter)
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    beside: dict[str, Counter[str]] = defaultdict(Counter)
    without: Counter[str] = Counter()
    for row in rows:
        if row.client is None:
            continue
        if row.source == _BESIDE:
            beside[row.client][_label(row.score)] += row.leads
        elif row.source is None:
            without[row.client] += row.leads
        else:
            results[row.client][_label(row.score)] += row.leads
            sources[row.client]["disqualified" if row.source == _BY_TAG else row.source] += row.leads
    groups = [Group(name, results[name], without[name], sources[name], beside[name]) for name in {*results, *without}]
    strange = any(each.results[OTHER] or each.beside[OTHER] for each in groups)
    return Distribution(
        "workspace",
        (*_SCORES, OTHER) if strange else _SCORES,
        SOURCES,
        sorted(groups, key=lambda each: (-each.items, each.name)),
        max(0, read - sum(each.items for each in groups)),
    )


def _label(score: int) -> str:
    return str(score) if LOWEST <= score <= HIGHEST else OTHER
