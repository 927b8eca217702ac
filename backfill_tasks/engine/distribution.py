"""The distribution of a run's results: how many of its items have which, by group."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The result of an item that has one outside the known range.
OTHER = "other"


@dataclass(frozen=True)
class Group:
    """The items of one group, such as a workspace.

    Attributes:
        name: its id; empty for all groups together.
        results: how many of the run's items have which result.
        without: how many of the run's items have none yet.
        sources: where the results come from, as far as known.
        beside: the results of the group's items that aren't the run's.
    """

    name: str
    results: Mapping[str, int]
    without: int
    sources: Mapping[str, int]
    beside: Mapping[str, int]

    @property
    def done(self) -> int:
        """The number of the run's items that have a result."""
        return sum(self.results.values())

    @property
    def items(self) -> int:
        """The number of the run's items."""
        return self.done + self.without


@dataclass(frozen=True)
class Distribution:
    """How many items of a run have which result.

    Attributes:
        kind: what a group is, such as "workspace".
        results: every result, in display order; `OTHER` only if an item has one.
        sources: where results can come from, and in words what that means.
        groups: the groups with at least one of the run's items, the largest first.
        rest: how many items that the run has read are in no group: they were left alone or quarantined, are gone, or
            were changed by something else since.
    """

    kind: str
    results: Sequence[str]
    sources: Mapping[str, str]
    groups: Sequence[Group]
    rest: int = 0

    @property
    def whole(self) -> Group:
        """All groups together."""
        return Group(
            "",
            _sum(each.results for each in self.groups),
            sum(each.without for each in self.groups),
            _sum(each.sources for each in self.groups),
            _sum(each.beside for each in self.groups),
        )

    @property
    def origins(self) -> str:
        """Where the results come from, in words; empty without results."""
        counts = self.whole.sources
        return ", ".join(f"{counts[name]:,} {meaning}" for name, meaning in self.sources.items() if counts.get(name))

    def as_json(self) -> dict[str, Any]:
        """Return the distribution as `report --json` prints it (docs/reference/json.md)."""
        return {
            "all": self._as_json(self.whole),
            "groups": [{self.kind: each.name, **self._as_json(each)} for each in self.groups],
            "rest": self.rest,
        }

    def _as_json(self, group: Group) -> dict[str, Any]:
        return {
            "items": group.items,
            "results": {name: group.results.get(name, 0) for name in self.results},
            "without": group.without,
            "sources": {name: group.sources.get(name, 0) for name in self.sources},
            "beside": {name: group.beside.get(name, 0) for name in self.results},
        }


def _sum(counts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total
