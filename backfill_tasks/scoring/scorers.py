"""The installed scorers, found by their entry points; each is imported when it is first asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points

from backfill_tasks.errors import PluginError
from backfill_tasks.escaping import one_line
from backfill_tasks.kinds import quoted
from backfill_tasks.scoring.contract import AnyScorer

#: The group of entry points. Each one's name is the name of its scorer; the object is a subclass of `AnyScorer`, which
#: is called without arguments, or an instance.
GROUP = "backfill.scorers"

#: The maximum number of characters repeated from a foreign error.
_MOST_REPEATED = 200


@dataclass(frozen=True, eq=False)
class Scorers(Mapping[str, AnyScorer]):
    """The installed scorers by name. A scorer that can't be used raises a PluginError when it is asked for."""

    entries: Sequence[EntryPoint]
    _loaded: dict[str, AnyScorer] = field(default_factory=dict, init=False, repr=False)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({each.name for each in self.entries}))

    def __len__(self) -> int:
        return len({each.name for each in self.entries})

    def __contains__(self, name: object) -> bool:
        return any(each.name == name for each in self.entries)

    def __getitem__(self, name: str) -> AnyScorer:
        """Load a scorer.

        Raises:
            PluginError: no package provides it, several do, or it can't be loaded.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> AnyScorer:
        entries = [each for each in self.entries if each.name == name]
        match entries:
            case []:
                installed = ", ".join(self) or "none"
                raise PluginError(f"no package brings a scorer {quoted(name)}: installed are {installed}")
            case [entry]:
                return _scorer(entry)
        raise PluginError(f"{len(entries)} packages bring a scorer {name}: uninstall all but one")


def installed() -> Scorers:
    """Return the installed scorers."""
    return Scorers(tuple(entry_points(group=GROUP)))


def _scorer(entry: EntryPoint) -> AnyScorer:
    """Import and create a scorer.

    Raises:
        PluginError: it can't be used.
    """
    try:
        found = entry.load()
        made = found() if isinstance(found, type) else found
    except Exception as error:  # noqa: BLE001  a foreign module may fail in any way
        reason = one_line(str(error).partition("\n")[0], most=_MOST_REPEATED)
        raise PluginError(f"the scorer {entry.name} can't be loaded: {type(error).__name__}: {reason}") from None
    if not isinstance(made, AnyScorer):
        raise PluginError(f"the scorer {entry.name} can't be used: it is no Scorer but {quoted(made)}")
    if made.name != entry.name:
        raise PluginError(f"the scorer {entry.name} can't be used: it calls itself {quoted(made.name)}")
    return made
