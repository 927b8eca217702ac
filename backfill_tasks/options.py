"""Options: every parameter of a run, declared once.

The flag of the command line with its camelCase alias, `tune`, the setting that changes the default, the check of a
checkpoint file, the JSON and the API's keyword argument all derive from the declaration. The options of every run are
the fields of `Parameters` and `Pace`; a backfill declares its own (`Backfill.options`).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, Self

#: Where `backfill run --help` lists an option.
Group = Literal["essentials", "pace", "compatibility"]

_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)

#: The most digits of a whole number that are read, and the most characters of a wrong value that a message repeats.
_MOST_DIGITS = _MOST_REPEATED = 40

_DAY_MS = 86_400_000
_TEN_MINUTES_MS = 600_000


def quoted(value: object) -> str:
    """Return a wrong value as a message may repeat it: quoted if it is text, and not too long."""
    text = repr(value)
    return text if len(text) <= _MOST_REPEATED + 2 else f"{text[:_MOST_REPEATED]}… ({len(str(value)):,} characters)"


def _plain(number: float) -> str:
    """A number without an exponent."""
    return f"{number:,.6f}".rstrip("0").rstrip(".")


class Kind(ABC):
    """What values an option takes."""

    metavar: ClassVar[str] = "VALUE"

    @property
    @abstractmethod
    def values(self) -> str:
        """The values that it takes, in words."""

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Read a value from the command line or the environment. Raises ValueError with the reason."""

    @abstractmethod
    def check(self, value: Any) -> Any:
        """Return a value that Python or JSON has given, if it is one. Raises ValueError with the reason."""


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number within a range; where it may be off, `none` (None) is too. `because`: why there is a most."""

    least: int
    most: int
    off: bool = False
    because: str = ""
    metavar: ClassVar[str] = "N"

    @property
    def values(self) -> str:
        """The range."""
        return f"whole, {self.least:,} to {self.most:,}{', or none' if self.off else ''}"

    def parse(self, text: str) -> int | None:
        """Read a number in decimal digits."""
        if self.off and text == "none":
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
            raise self._refusal(text)
        return self.check(int(text), given=text)

    def check(self, value: Any, *, given: object = None) -> int | None:
        """Refuse anything but an int of the range."""
        if self.off and value is None:
            return None
        if type(value) is not int or not self.least <= value <= self.most:
            raise self._refusal(value if given is None else given)
        return value

    def _refusal(self, value: object) -> ValueError:
        why = f": {self.because}" if self.because else ""
        or_none = ", or none" if self.off else ""
        return ValueError(f"{quoted(value)} is not a whole number from {self.least} to {self.most}{or_none}{why}")


@dataclass(frozen=True)
class Number(Kind):
    """A number within a range, fractions included; where it may be off, `none` (None) is too."""

    least: float
    most: float
    off: bool = False
    metavar: ClassVar[str] = "N"

    @property
    def values(self) -> str:
        """The range."""
        return f"{_plain(self.least)} to {_plain(self.most)}{', or none' if self.off else ''}"

    def parse(self, text: str) -> float | None:
        """Read a number in decimal digits, with a point or without."""
        if self.off and text == "none":
            return None
        if not _NUMBER.fullmatch(text):
            raise self._refusal(text)
        return self.check(float(text), given=text)

    def check(self, value: Any, *, given: object = None) -> float | None:
        """Refuse anything but an int or a float of the range."""
        if self.off and value is None:
            return None
        if type(value) not in (int, float) or not self.least <= value <= self.most:
            raise self._refusal(value if given is None else given)
        return float(value)

    def _refusal(self, value: object) -> ValueError:
        or_none = ", or none" if self.off else ""
        return ValueError(f"{quoted(value)} is not a number from {self.least:g} to {self.most:g}{or_none}")


@dataclass(frozen=True)
class Flag(Kind):
    """On or off."""

    @property
    def values(self) -> str:
        """On or off."""
        return "on or off"

    def parse(self, text: str) -> bool:
        """Read true or false."""
        if text not in ("true", "false"):
            raise ValueError(f"{quoted(text)} is neither true nor false")
        return text == "true"

    def check(self, value: Any) -> bool:
        """Refuse anything but a bool."""
        if type(value) is not bool:
            raise ValueError(f"{quoted(value)} is neither true nor false")
        return value


@dataclass(frozen=True)
class Text(Kind):
    """A text that is not empty; None: not given."""

    metavar: ClassVar[str] = "ID"

    @property
    def values(self) -> str:
        """Any text."""
        return "a text"

    def parse(self, text: str) -> str | None:
        """Take the text as it is."""
        return self.check(text)

    def check(self, value: Any) -> str | None:
        """Refuse anything but a text that PostgreSQL can store."""
        if value is None:
            return None
        if type(value) is not str or not value or "\x00" in value:
            raise ValueError(f"{quoted(value)} is not a text with at least one character")
        return value


@dataclass(frozen=True)
class Texts(Kind):
    """Several texts, sorted and each once; None: not given. On the command line, the flag is repeated."""

    metavar: ClassVar[str] = "ID"

    @property
    def values(self) -> str:
        """Any texts."""
        return "texts, the flag repeated"

    def parse(self, text: str) -> list[str] | None:
        """Read one of them."""
        return self.check([text])

    def check(self, value: Any) -> list[str] | None:
        """Refuse anything but a list or a tuple of texts; an empty one is None."""
        if value is None:
            return None
        if type(value) not in (list, tuple):
            raise ValueError(f"{quoted(value)} is not a list of texts")
        one = Text()
        if any(one.check(each) is None for each in value):
            raise ValueError("None is not a text")
        return sorted(set(value)) or None


@dataclass(frozen=True)
class Option:
    """One parameter of a run.

    Attributes:
        name: its name in Python, in JSON and in the ledger; the flag is the same in kebab-case.
        kind: the values that it takes.
        help: what it does, in a sentence.
        default: its value where neither a caller nor the environment gives one.
        group: where `backfill run --help` lists it.
        variable: the environment variable that changes the default; None: there is none.
        setting: what `backfill config` says of that variable.
        tunable: whether it may change while a run goes on.
        needs_jobs: whether it means nothing to a backfill that enqueues no jobs.
        excludes: the option that says the same thing in another way: a run has one of the two.
        flag: the flag, where it is not the name in kebab-case.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    group: Group = "essentials"
    variable: str | None = None
    setting: str = ""
    tunable: bool = False
    needs_jobs: bool = False
    excludes: str | None = None
    flag: str = ""

    @property
    def on_command_line(self) -> str:
        """The flag of the command line."""
        return self.flag or f"--{self.name.replace('_', '-')}"

    @property
    def shown(self) -> str:
        """The default, as it is typed."""
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return "none" if self.default is None else str(self.default)

    @property
    def off(self) -> Any:
        """The value with which the option does nothing."""
        return 0 if isinstance(self.kind, Number | Whole) and not self.kind.off else None

    def is_on(self, value: Any) -> bool:
        """Return whether a value makes the option do anything."""
        return value is not None and value is not False and value != self.off

    def check(self, value: Any) -> Any:
        """Return a value that Python or JSON has given, if the option takes it.

        Raises:
            OptionError: it doesn't.
        """
        try:
            return self.kind.check(value)
        except ValueError as error:
            raise OptionError(self, str(error)) from None


class OptionError(ValueError):
    """A run can't have this option, or not with this value. `option`: which; `why`: the reason, without its name."""

    def __init__(self, option: Option, why: str) -> None:
        super().__init__(f"{option.name}: {why}")
        self.option = option
        self.why = why


def _option(kind: Kind, help: str, **more: Any) -> Mapping[str, Any]:  # noqa: A002  as Option has it
    """The metadata that makes a dataclass's field the declaration of an option."""
    return {"option": {"kind": kind, "help": help, **more}}


@dataclass(frozen=True)
class Pace:
    """How fast a run may go. Every bound may change while the run goes on."""

    jobs_per_minute: float | None = field(
        default=None,
        metadata=_option(
            Number(0.001, 1_000_000, off=True),
            "Spread the due times so that N of the run's jobs come due each minute; none: all at once.",
            group="pace",
            variable="BACKFILL_JOBS_PER_MINUTE",
            setting="jobs of a run that come due a minute, where no option says; none: whatever there is room for",
            tunable=True,
            needs_jobs=True,
        ),
    )
    max_pending: int | None = field(
        default=12,
        metadata=_option(
            Whole(1, 100_000_000, off=True),
            "Keep at most N jobs in the host's queue, ours and due live ones; none: no bound.",
            group="pace",
            variable="BACKFILL_MAX_PENDING",
            setting=(
                "most jobs in the host's queue, ours and live ones that are due, where no option says; none: no bound"
            ),
            tunable=True,
            needs_jobs=True,
        ),
    )
    max_jobs: int | None = field(
        default=None,
        metadata=_option(
            Whole(1, 1_000_000_000, off=True),
            "Pause the run once it has enqueued N jobs; none: no bound.",
            group="pace",
            tunable=True,
            needs_jobs=True,
        ),
    )
    max_live_wait: float = field(
        default=180.0,
        metadata=_option(
            Number(0, 604_800),
            "Start no page while a due job of any other kind has waited for more than N seconds; 0: don't ask.",
            group="pace",
            variable="BACKFILL_MAX_LIVE_WAIT",
            setting="no page starts while a due job of any other kind has waited for more seconds; 0: not asked",
            tunable=True,
            needs_jobs=True,
        ),
    )
    target_page_ms: int = field(
        default=200,
        metadata=_option(
            Whole(0, 60_000),
            "Adapt the page size, up to --limit, so that a page takes N milliseconds; 0: keep it.",
            group="pace",
            variable="BACKFILL_TARGET_PAGE_MS",
            setting="what a page should take, in milliseconds: its size follows; 0: pages stay as they are",
            tunable=True,
        ),
    )

    @property
    def spacing_ms(self) -> float | None:
        """The time between two jobs that come due, in milliseconds; None where they are not spread."""
        return None if self.jobs_per_minute is None else 60_000 / self.jobs_per_minute

    @property
    def bounds_jobs(self) -> bool:
        """Whether any bound says how many jobs there may be, or when they are due."""
        return (self.jobs_per_minute, self.max_pending, self.max_jobs) != (None, None, None)


#: A pace without any bound, for what is to go as fast as it can.
UNBOUNDED = Pace(max_pending=None, max_live_wait=0.0, target_page_ms=0)

Values = Mapping[str, Any]
"""Options by name, as JSON values."""


@dataclass(frozen=True)
class Parameters:
    """What a run was asked to do. Fixed for the run's life, but for what is tunable.

    `options`: the backfill's own. The engine stores them and hands them back, and looks at none.
    """

    backfill: str
    limit: int = field(
        default=500,
        metadata=_option(
            Whole(1, 10_000, because="a page locks its rows until it commits"),
            "Page size, in rows.",
            tunable=True,
        ),
    )
    lanes: int = field(
        default=2,
        metadata=_option(
            Whole(1, 64),
            "How many lanes walk the table side by side.",
            group="pace",
            variable="BACKFILL_LANES",
            setting="lanes of a run, where --lanes does not say",
        ),
    )
    cursor: str | None = field(default=None, metadata=_option(Text(), "Start after this key."))
    page_delay_ms: int = field(
        default=0,
        metadata=_option(
            Whole(0, _TEN_MINUTES_MS),
            "Pause for N milliseconds between the pages of a lane.",
            group="pace",
            tunable=True,
        ),
    )
    options: Values = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    cost_per_job: float | None = field(
        default=None,
        metadata=_option(
            Number(0.000_001, 1_000_000, off=True),
            "What one job costs, in your own money: counts then include the cost.",
            group="pace",
            needs_jobs=True,
        ),
    )

    def as_json(self) -> dict[str, Any]:
        """Return all parameters in one flat object, the backfill's own beside the run's."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("options", "pace")}
        return {**own, **asdict(self.pace), **self.options}

    @classmethod
    def from_json(cls, values: Values) -> Self:
        """Return the inverse of `as_json`. An option that is missing has its default: it is newer than the run.

        Raises:
            KeyError: the backfill's name is missing.
        """
        pace = {each.name for each in fields(Pace)}
        own = {each.name for each in fields(cls)} - {"options", "pace"}
        return cls(
            values["backfill"],
            **{name: value for name, value in values.items() if name in own and name != "backfill"},
            options={name: value for name, value in values.items() if name not in pace | own},
            pace=Pace(**{name: value for name, value in values.items() if name in pace}),
        )


def _declared(*owners: type[Pace | Parameters]) -> Iterator[Option]:
    for each in (each for owner in owners for each in fields(owner)):
        if "option" in each.metadata:
            yield Option(each.name, default=each.default, **each.metadata["option"])


#: The options of every run, by name.
RUN_OPTIONS: Mapping[str, Option] = {each.name: each for each in _declared(Parameters, Pace)}

#: Names that no backfill can give an option of its own: those of every run's, and what `run` has beside options.
RESERVED = frozenset(
    (
        *RUN_OPTIONS,
        *("backfill", "name", "dry_run", "apply", "canary", "resume", "rate", "run_until_done", "single_batch"),
        *("state_file", "force", "yes", "detach", "as_json", "json", "help"),
    )
)

#: The options that may change while a run goes on.
TUNABLE = tuple(name for name, each in RUN_OPTIONS.items() if each.tunable)


def check(declared: Iterable[Option], values: Values) -> Values:
    """Return the values of just these options, each as its option takes it.

    Raises:
        ValueError: one is missing, unknown, or not what its option takes.
    """
    known = {each.name: each for each in declared}
    if values.keys() != known.keys():
        raise ValueError(f"the options are {', '.join(sorted(values))}, and should be {', '.join(sorted(known))}")
    return {name: each.check(values[name]) for name, each in known.items()}


def resolve(backfill: str, own: Iterable[Option], *, has_jobs: bool, asked: Values, defaults: Values) -> Parameters:
    """Return a run's parameters: what was asked for, and the defaults where nothing was.

    Args:
        backfill: the backfill's name.
        own: the backfill's own options.
        has_jobs: whether it enqueues jobs; if not, the options that speak of jobs are off.
        asked: the options that a caller has given, by name.
        defaults: defaults that the environment has changed, by name.

    Raises:
        OptionError: an option means nothing to this backfill, or two say the same, or a value is none.
        KeyError: there is no option of a name.
    """
    known = {**RUN_OPTIONS, **{each.name: each for each in own}}
    chosen = {name: known[name].check(value) for name, value in asked.items()}
    for each in known.values():
        if each.needs_jobs and not has_jobs:
            if each.name in chosen:
                raise OptionError(each, f"{backfill} enqueues no jobs: remove it")
            chosen[each.name] = each.off
    for each in known.values():
        other = known.get(each.excludes or "")
        if other is not None and each.name in chosen:
            if chosen.get(other.name) is not None:
                raise OptionError(each, f"it contradicts {other.name}: remove one")
            chosen[other.name] = other.off
    return Parameters.from_json(
        {
            "backfill": backfill,
            **{name: chosen.get(name, defaults.get(name, each.default)) for name, each in known.items()},
        }
    )
