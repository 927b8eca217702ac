"""The installed backfills, found by their entry points; each is imported when it is first asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

from backfill_tasks.engine.contract import Backfill, Host
from backfill_tasks.errors import PluginError
from backfill_tasks.escaping import one_line
from backfill_tasks.kinds import quoted
from backfill_tasks.options import RESERVED, Option
from backfill_tasks.settings import why_not_for_a_plugin

#: The group of entry points. Each one's name is the name of its backfill; the object is a subclass of `Backfill`, which
#: is called without arguments, or an instance.
GROUP = "backfill.backfills"

#: The backfill used if no name is given.
DEFAULT = "lead-scoring"

#: The maximum number of characters repeated from a foreign error.
_MOST_REPEATED = 200


@dataclass(frozen=True, eq=False)
class Backfills(Mapping[str, Backfill]):
    """The installed backfills by name: the default first, then in alphabetical order.

    Listing names imports nothing. A backfill that can't be used raises a PluginError when it is asked for, naming it
    and its package, and doesn't affect the others: `usable` omits it, and `broken` says why.
    """

    entries: Sequence[EntryPoint]
    prepare: Callable[[Backfill], Backfill]
    #: The backfill, or why it can't be used, by name.
    _loaded: dict[str, Backfill | str] = field(default_factory=dict, init=False, repr=False)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({each.name for each in self.entries}, key=lambda name: (name != DEFAULT, name)))

    def __len__(self) -> int:
        return len({each.name for each in self.entries})

    def __contains__(self, name: object) -> bool:
        return any(each.name == name for each in self.entries)

    def __getitem__(self, name: str) -> Backfill:
        """Load a backfill.

        Raises:
            PluginError: no package provides it, several do, or it can't be loaded.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        found = self._loaded[name]
        if isinstance(found, str):
            raise PluginError(found)
        return found

    def choose(self, name: str) -> Backfill:
        """Return the backfill that an operator names.

        Raises:
            PluginError: it can't be used.
        """
        if name in self.broken():
            raise PluginError(self.broken()[name])
        return self[name]

    def usable(self) -> list[Backfill]:
        """Load all backfills, and return those that can be used."""
        return list(self._judged[0].values())

    def broken(self) -> Mapping[str, str]:
        """Load all backfills, and return why each unusable one can't be used, by name."""
        return self._judged[1]

    def options(self) -> dict[str, Option]:
        """Return the own options of all usable backfills, by name. Options that share a name are identical."""
        found: dict[str, Option] = {}
        for option in (option for each in self.usable() for option in each.options):
            found.setdefault(option.name, option)
        return found

    @cached_property
    def _judged(self) -> tuple[dict[str, Backfill], dict[str, str]]:
        """The usable backfills, and why the others can't be used. They share a command line: options may not clash."""
        usable: dict[str, Backfill] = {}
        broken: dict[str, str] = {}
        for name in self:
            try:
                loaded = self[name]
                _refuse_clashes(loaded, usable.values())
            except PluginError as error:
                broken[name] = str(error)
            else:
                usable[name] = loaded
        return usable, broken

    def _load(self, name: str) -> Backfill | str:
        entries = [each for each in self.entries if each.name == name]
        match entries:
            case []:
                return f"no package provides a backfill {quoted(name)}. Installed: {', '.join(self)}"
            case [entry]:
                return _loaded(entry, self.prepare)
        origins = " and ".join(sorted(map(_origin, entries)))
        return f"{len(entries)} packages provide a backfill {name}: {origins}. Uninstall all but one"


def installed(prepare: Callable[[Backfill], Backfill] = lambda each: each) -> Backfills:
    """Return the installed backfills, each passed through `prepare` when it is loaded."""
    return Backfills(tuple(entry_points(group=GROUP)), prepare)


def on_host(host: Host) -> Backfills:
    """Return the installed backfills for one host."""
    return installed(lambda each: each.on(host))


#: The installed backfills, without a host: the names that an operator may use, and the options that each declares.
KINDS = installed()


def _loaded(entry: EntryPoint, prepare: Callable[[Backfill], Backfill]) -> Backfill | str:
    """Import and create a backfill, or return in one line why it can't be used."""
    whose = f"the backfill {entry.name} of {_origin(entry)}"
    try:
        found = entry.load()
        made = found() if isinstance(found, type) else found
        if not isinstance(made, Backfill):
            return f"{whose} can't be used: it is not a Backfill but {quoted(made)}"
        if made.name != entry.name:
            return f"{whose} can't be used: its name is {quoted(made.name)}"
        for each in made.options:
            if why := _unusable(each):
                return f"{whose} can't be used: {why}"
            each.check(each.default)
        return prepare(made)
    except Exception as error:  # noqa: BLE001  a foreign module may fail in any way
        reason = one_line(str(error).partition("\n")[0], most=_MOST_REPEATED)
        return f"{whose} can't be loaded: {type(error).__name__}: {reason}"


def _unusable(option: Option) -> str | None:
    """Return why a backfill can't have an option of its own; None: it can."""
    flags = {f"--{name.replace('_', '-')}" for name in RESERVED}
    if option.name in RESERVED or option.on_command_line in flags:
        return f"it declares an option {option.name}, but `run` already has one of that name"
    why = None if option.variable is None else why_not_for_a_plugin(option.variable)
    return why and f"its option {option.name} can't read the variable {quoted(option.variable)}: {why}"


def _refuse_clashes(backfill: Backfill, others: Iterable[Backfill]) -> None:
    for other in others:
        for own in backfill.options:
            for taken in other.options:
                same_variable = own.variable is not None and own.variable == taken.variable
                alike = own.name == taken.name or own.on_command_line == taken.on_command_line or same_variable
                if alike and _meaning(own) != _meaning(taken):
                    raise PluginError(
                        f"the backfills {other.name} and {backfill.name} declare different options"
                        f" {own.on_command_line}: {backfill.name} can't be used until its package renames it"
                    )


def _meaning(option: Option) -> tuple[object, ...]:
    """Return what two backfills that share an option must agree on: everything but its help."""
    return (
        option.name,
        option.on_command_line,
        option.kind,
        option.default,
        option.variable,
        option.tunable,
        option.excludes,
    )


def _origin(entry: EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
    return f"{package} ({entry.value})"
