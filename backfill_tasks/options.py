"""Options: every parameter of a run, declared once.

The command-line flag with its camelCase alias, `tune`, the setting that changes the default, the validation of a
checkpoint file, the JSON and the API's keyword argument are all derived from the declaration. The options of every run
are the fields of `Parameters` and `Pace`; a backfill declares its own (`Backfill.options`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Protocol, Self

from backfill_tasks.kinds import Kind, Number, Text, Whole

#: The section of `backfill run --help` that lists an option.
Group = Literal["essentials", "pace", "compatibility"]

_DAY_MS = 86_400_000
_TEN_MINUTES_MS = 600_000


@dataclass(frozen=True)
class Option:
    """One parameter of a run.

    Attributes:
        name: its name in Python, in JSON and in the ledger; the flag is the same in kebab-case.
        kind: the values it takes.
        help: what it does, in one sentence.
        default: its value if neither a caller nor the environment gives one.
        group: the section of `backfill run --help` that lists it.
        variable: the environment variable that changes the default; None: there is none. A plug-in
            begins its variables with a prefix of its own.
        setting: the description of that variable in `backfill config`; the help if empty.
        tunable: whether it may change while a run is in progress. The next page gets the new value.
        needs_jobs: whether it has no meaning for a backfill that enqueues no jobs.
        excludes: the alternative option: a run has at most one of the two.
        implies: the defaults of other options in a run that has this one on, by name.
        added_later: whether checkpoints of an earlier version may lack it; a run continued from them has the default.
        flag: the flag, if it is not the name in kebab-case.
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
    implies: Mapping[str, Any] = field(default_factory=dict)
    added_later: bool = False
    flag: str = ""

    @property
    def on_command_line(self) -> str:
        """The command-line flag."""
        return self.flag or f"--{self.name.replace('_', '-')}"

    @property
    def shown(self) -> str:
        """The default, as typed."""
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return "none" if self.default is None else str(self.default)

    @property
    def off(self) -> Any:
        """The value that switches the option off."""
        return 0 if isinstance(self.kind, Number | Whole) and not self.kind.off else None

    def is_on(self, value: Any) -> bool:
        """Return whether a value switches the option on."""
        return value is not None and value is not False and value != self.off

    def check(self, value: Any) -> Any:
        """Return a value from Python or JSON if the option takes it.

        Raises:
            OptionError: it doesn't.
        """
        try:
            return self.kind.check(value)
        except ValueError as error:
            raise OptionError(self, str(error)) from None


class OptionError(ValueError):
    """A run can't have this option, or not with this value. `why` is the reason without the option's name."""

    def __init__(self, option: Option, why: str) -> None:
        super().__init__(f"{option.name}: {why}")
        self.option = option
        self.why = why


def _option(kind: Kind, help: str, **more: Any) -> Mapping[str, Any]:  # noqa: A002  the name of Option's field
    """Return the metadata that declares a dataclass field as an option."""
    return {"option": {"kind": kind, "help": help, **more}}


@dataclass(frozen=True)
class Pace:
    """How fast a run may go. Every bound may change while the run is in progress."""

    jobs_per_minute: float | None = field(
        default=None,
        metadata=_option(
            Number(0.001, 1_000_000, off=True),
            "Spread due times, so that N of the run's jobs come due per minute; none: no spreading.",
            group="pace",
            variable="BACKFILL_JOBS_PER_MINUTE",
            setting="default of --jobs-per-minute: how many jobs of a run come due per minute; none: no spreading",
            tunable=True,
            needs_jobs=True,
        ),
    )
    max_pending: int | Literal["auto"] | None = field(
        default="auto",
        metadata=_option(
            Whole(1, 100_000_000, off=True, auto=True),
            "Keep at most N jobs in the host's queue, ours and due live ones; auto: what the host's next call takes;"
            " none: no limit.",
            group="pace",
            variable="BACKFILL_MAX_PENDING",
            setting=(
                "default of --max-pending: the most jobs in the host's queue, ours and due live ones; auto: what the"
                " host's next call takes; none: no limit"
            ),
            tunable=True,
            needs_jobs=True,
        ),
    )
    min_share: float = field(
        default=5.0,
        metadata=_option(
            Number(0, 100),
            "With --max-pending auto: let N percent of the host's drain be ours once live jobs have left no room for"
            " two hours; 0: wait for room.",
            group="pace",
            variable="BACKFILL_MIN_SHARE",
            setting=(
                "default of --min-share: percent of the host's drain that is ours once live jobs have left no room for"
                " two hours; 0: none"
            ),
            tunable=True,
            needs_jobs=True,
            added_later=True,
        ),
    )
    max_jobs: int | None = field(
        default=None,
        metadata=_option(
            Whole(1, 1_000_000_000, off=True),
            "Pause the run when it has enqueued N jobs; none: no limit.",
            group="pace",
            tunable=True,
            needs_jobs=True,
        ),
    )
    max_live_wait: float = field(
        default=180.0,
        metadata=_option(
            Number(0, 604_800),
            "Postpone pages while a live job has been due for more than N seconds; 0: no limit.",
            group="pace",
            variable="BACKFILL_MAX_LIVE_WAIT",
            setting="default of --max-live-wait: pages wait if a live job has been due for more seconds; 0: no limit",
            tunable=True,
            needs_jobs=True,
        ),
    )
    target_page_ms: int = field(
        default=200,
        metadata=_option(
            Whole(0, 60_000),
            "Adapt the page size, up to --limit, so that a page takes N milliseconds; 0: fixed size.",
            group="pace",
            variable="BACKFILL_TARGET_PAGE_MS",
            setting="default of --target-page-ms: the duration that the page size adapts to; 0: fixed size",
            tunable=True,
        ),
    )

    @property
    def spacing_ms(self) -> float | None:
        """The time between the due times of two jobs, in milliseconds; None: they are not spread."""
        return None if self.jobs_per_minute is None else 60_000 / self.jobs_per_minute

    @property
    def bounds_jobs(self) -> bool:
        """Whether a bound limits the number of jobs or spreads their due times."""
        return (self.jobs_per_minute, self.max_pending, self.max_jobs) != (None, None, None)


#: A pace without bounds, for runs that go as fast as they can.
UNBOUNDED = Pace(max_pending=None, max_live_wait=0.0, target_page_ms=0)

Values = Mapping[str, Any]
"""The values of options, in JSON's types, by the option's name."""


@dataclass(frozen=True)
class Parameters:
    """The parameters of a run. Only the tunable ones may change during the run.

    `options`: the backfill's own. The engine stores and returns them without reading them.
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
            "Number of lanes that walk the table in parallel.",
            group="pace",
            variable="BACKFILL_LANES",
            setting="default of --lanes: how many lanes walk the table in parallel",
        ),
    )
    cursor: str | None = field(default=None, metadata=_option(Text("start at the first key"), "Start after this key."))
    page_delay_ms: int = field(
        default=0,
        metadata=_option(
            Whole(0, _TEN_MINUTES_MS),
            "Wait N milliseconds after each page of a lane.",
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
            "Price of one job, in any currency; the counts then show the cost.",
            group="pace",
            needs_jobs=True,
        ),
    )

    def as_json(self) -> dict[str, Any]:
        """Return all parameters in one flat object, including the backfill's own."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("options", "pace")}
        return {**own, **asdict(self.pace), **self.options}

    @classmethod
    def from_json(cls, values: Values) -> Self:
        """Return the parameters of an `as_json` object. A missing option is newer than the run and gets its default.

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

#: Names that a backfill's own options can't have: the options of every run, and the other arguments of `run`.
RESERVED = frozenset(
    (
        *RUN_OPTIONS,
        *("backfill", "name", "run", "dry_run", "apply", "canary", "resume", "rate", "run_until_done", "single_batch"),
        *("state_file", "forecast_cost", "force", "yes", "detach", "as_json", "json", "help"),
    )
)


def all_options(own: Iterable[Option]) -> dict[str, Option]:
    """Return the options of every run and a backfill's own, by name."""
    return {**RUN_OPTIONS, **{each.name: each for each in own}}


def tunable(own: Iterable[Option]) -> dict[str, Option]:
    """Return the options that may change while a run is in progress, a backfill's own included, by name."""
    return {name: each for name, each in all_options(own).items() if each.tunable}


def check(declared: Iterable[Option], values: Values) -> Values:
    """Return the validated values of exactly these options; one that was added later may be missing.

    Raises:
        ValueError: an option is missing, unknown, or has an invalid value.
    """
    known = {each.name: each for each in declared}
    values = {**{name: each.default for name, each in known.items() if each.added_later}, **values}
    if values.keys() != known.keys():
        raise ValueError(f"its options are {', '.join(sorted(values))}; they should be {', '.join(sorted(known))}")
    return {name: each.check(values[name]) for name, each in known.items()}


class Owner(Protocol):
    """What declares options of its own: a backfill."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def options(self) -> Sequence[Option]:
        """Its own options."""

    @property
    def jobs(self) -> Sequence[str]:
        """The classes whose items enqueue a job; if there are none, the options that need jobs are off."""


def resolve(owner: Owner, *, asked: Values, defaults: Values) -> Parameters:
    """Return a run's parameters: the given options, and defaults for the others.

    Args:
        owner: the backfill.
        asked: the options given by a caller, by name.
        defaults: the defaults changed by the environment, by name.

    Raises:
        OptionError: an option has no meaning for this backfill, excludes another one that is given, or has an invalid
            value.
        KeyError: there is no option with a given name.
    """
    known = all_options(owner.options)
    chosen = {name: known[name].check(value) for name, value in asked.items()}
    for each in known.values():
        if each.needs_jobs and not owner.jobs:
            if each.name in chosen:
                raise OptionError(each, f"{owner.name} enqueues no jobs: remove it")
            chosen[each.name] = each.off
    for each in known.values():
        other = known.get(each.excludes or "")
        if other is not None and each.name in asked:
            if chosen.get(other.name) is not None:
                raise OptionError(each, f"it contradicts {other.name}: remove one")
            chosen[other.name] = other.off
    on = [each for each in known.values() if each.is_on(chosen.get(each.name))]
    implied = {name: value for each in on for name, value in each.implies.items()}
    fallen_back = {**defaults, **implied}
    return Parameters.from_json(
        {
            "backfill": owner.name,
            **{name: chosen.get(name, fallen_back.get(name, each.default)) for name, each in known.items()},
        }
    )
