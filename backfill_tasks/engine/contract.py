"""The contract between the engine and a backfill: what a backfill implements, and the types that it handles."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from backfill_tasks.engine.admission.indicators import Indicator
from backfill_tasks.engine.model import Bounds, PageResult, Run, Window
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.errors import HostError
from backfill_tasks.escaping import one_line
from backfill_tasks.options import Option, Pace, Values
from backfill_tasks.settings import Settings


@dataclass(frozen=True)
class Host:
    """The application whose database this is: the schema of its tables, and the settings of this process."""

    schema: str
    settings: Settings


@dataclass(frozen=True)
class PageContext:
    """What a page needs to know of its run.

    Attributes:
        options: the backfill's own parameters.
        started_at: when the run began.
        ordinal: how many ordinals are taken before it.
        spacing_ms: the time between two items that fall due, in milliseconds; None: they are not spread.
        due_at: when the last one fell due; the page's own follow, and none of them is due before now.
    """

    options: Values
    started_at: datetime
    ordinal: int = 0
    spacing_ms: float | None = None
    due_at: datetime | None = None


@dataclass(frozen=True)
class Stretch:
    """What `verify` found.

    Attributes:
        cursor: the last id that was looked at.
        missing: ids that nothing was done for.
        arrived: how many came too late to be this run's.
        looked_at: how many rows were looked at, whether they take part or not.
        unresolved: ids whose job has ended without a result, by the names of `Backfill.unresolved`.
        waiting: how many still wait for the host.
        left_alone: ids of `missing` that another run would leave as they are.
    """

    cursor: str
    missing: Sequence[str]
    arrived: int
    looked_at: int
    unresolved: Mapping[str, Sequence[str]] = field(default_factory=dict)
    waiting: int = 0
    left_alone: Sequence[str] = ()


@dataclass(frozen=True)
class PageClaim:
    """What the ledger says that one page did, to be held against the database.

    `times`: when it was done, and when items of it that had been quarantined went through. `beside`: the counts of
    other runs' pages that have one of these times too.
    """

    lane: int
    page: int
    lower: str | None
    cursor: str
    times: Sequence[datetime]
    counts: dict[str, int]
    beside: Sequence[dict[str, int]] = ()

    def most(self, name: str) -> int:
        """How many rows of a class can carry the page's times: its own, and those of the pages beside it."""
        return sum(counts.get(name, 0) for counts in (self.counts, *self.beside))


@dataclass(frozen=True)
class Missing:
    """What a backfill lacks in the host's database, and what mends it, each in words."""

    what: str
    fix: str


class RowChanged(Exception):  # noqa: N818  not an error: the host moved a row while the page read it
    """The page met a row that the host changed under it; with a fresh snapshot it will go through."""


class ItemsFailed(Exception):  # noqa: N818  an item's failure, not the page's
    """A backfill's own code can't handle one of the page's items. The engine finds which, and quarantines it.

    Its text says why, on one line that repeats no value of a row: the ledger keeps it.
    """

    @property
    def whole_reason(self) -> str:
        """The text with the error behind it, which may repeat values: for an operator who asks, and stored nowhere."""
        return f"{self}: {one_line(str(self.__cause__))}" if self.__cause__ else str(self)


class Backfill(ABC):
    """One backfill: how its table is cut into lanes, and what happens to a page of it.

    Every method but `on` gets a connection inside a transaction that the engine begins and ends. Ids are compared in
    SQL only.
    """

    #: What `run` takes, and the ledger keeps.
    name: str
    #: What it does, in a line of `run --help`.
    summary: str = ""
    #: The classes of a page's items and what each means, in the order in which they are shown; `read` and `quarantined`
    #: are the engine's own.
    classes: Mapping[str, str]
    #: What a dry run counts beside them, and what it means: items that a page passes without reading them.
    passed_over: Mapping[str, str] = MappingProxyType({})
    #: What an item is called, in the plural.
    items: str = "rows"
    #: Its own options; the command line refuses those of other backfills.
    options: Sequence[Option] = ()
    #: The classes whose items put a new job into a queue of the host's. None for a backfill that has no jobs: no bound
    #: on jobs can hold it back.
    jobs: Sequence[str] = ()
    #: How a job can end without a result, and what each means, in the order in which they are shown.
    unresolved: Mapping[str, str] = MappingProxyType({})

    #: What is the matter with items that are missing and that another run would leave as they are.
    left_alone: str = ""

    def on(self, host: Host) -> "Backfill":  # noqa: ARG002  one that takes nothing from the host stays as it is
        """Return this backfill for one host: with its schema, and with the settings that are the backfill's business.

        Called once a process, before any other method. Connects to nothing.
        """
        return self

    def with_defaults(self, values: Values) -> dict[str, Any]:
        """Return a run's options with the default of each that is missing: it is newer than the run."""
        return {each.name: values.get(each.name, each.default) for each in self.options}

    @abstractmethod
    def missing(self, connection: Connection, *, apply: bool) -> Sequence[Missing]:
        """What this backfill lacks in the host's database: tables, rights of this role."""

    def check_host(self, connection: Connection, *, apply: bool) -> None:
        """Refuse a host that this backfill can't work with.

        Raises:
            HostError: the host's tables or this role's rights do not do; the first that is lacking.
        """
        for lack in self.missing(connection, apply=apply):
            raise HostError(f"{lack.what}: {lack.fix}")

    @abstractmethod
    def check(self, connection: Connection, options: Values, *, apply: bool) -> None:
        """Refuse what can't work: a host as `check_host` has it, options that name what does not exist.

        Raises:
            HostError: the host's tables or this role's rights do not do.
            UsageError: an option names something that does not exist.
        """

    @abstractmethod
    def split(
        self, connection: Connection, options: Values, *, after: str | None, lanes: int, smallest: int
    ) -> list[str]:
        """The upper bounds of up to `lanes` lanes of about equally many items, each of at least `smallest`.

        In the database's order; the last is the table's greatest id, so that together they cover all that lies after
        `after`. Empty if nothing does.
        """

    @abstractmethod
    def page(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Do one page. Its counts have `read` and every class, and the classes add up to `read`.

        Raises:
            RowChanged: the host changed a row while it was being read; the engine rolls back and tries again.
        """

    @abstractmethod
    def dry_run(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Count what `page` would do, through the same selection and with the same cursor, writing nothing."""

    @abstractmethod
    def verify(self, connection: Connection, window: Window, context: PageContext) -> Stretch:
        """Look for items of the window that should have a result and have none; writes nothing."""

    @abstractmethod
    def verify_full(self, connection: Connection, stretches: Sequence[Bounds], context: PageContext) -> Stretch:
        """Return what `verify` returns, for all these stretches (one at least) and in a form that needs no index."""

    @abstractmethod
    def recount(self, connection: Connection, claim: PageClaim) -> dict[str, int]:
        """Count in the database what a page says that it did, for those classes that leave a trace there."""

    def recount_full(self, connection: Connection, claims: Sequence[PageClaim]) -> Sequence[dict[str, int]]:
        """Return what `recount` returns of each of these pages, in a form that needs no index."""
        return [self.recount(connection, claim) for claim in claims]

    @abstractmethod
    def previous_key(self, connection: Connection, item: str) -> str | None:
        """The greatest id before this one, in the database's order; None if there is none."""

    @abstractmethod
    def last_key(self, connection: Connection) -> str | None:
        """Return the greatest id of all, in the database's order; None if the table is empty."""

    def overlap(self, options: Values, others: Values) -> str | None:  # noqa: ARG002  all items, whatever the options
        """What runs with these options would both walk, in words; None: no item is one of both.

        Asked before a run starts beside an unfinished one of the same backfill.
        """
        return f"all {self.items}"

    def pending(self, connection: Connection, most: int, context: PageContext | None = None) -> int:  # noqa: ARG002
        """Return how many jobs stand in the host's queue before one that is added now, counted up to `most`.

        This backfill's own that come due before the run's next one (without a context: before now), and those of
        others that go first. A backfill without jobs has none.
        """
        return 0

    def oldest_due_seconds(self, connection: Connection) -> float | None:  # noqa: ARG002  without jobs, none is due
        """Return for how long the oldest due job of any kind has waited in the host's queue; None: none is due."""
        return None

    def outcome(self, connection: Connection, run: Run) -> Outcome | None:  # noqa: ARG002  without jobs, there is none
        """Return what the host has made of a run's own jobs; None for a backfill that has no jobs.

        What it reads grows with the run: it is asked now and then, and not by pages.
        """
        return None

    def indicators(self, pace: Pace) -> Sequence[Indicator]:  # noqa: ARG002  without a queue, there is none to ask
        """What is to be asked before a page beside PostgreSQL itself: the host's queue."""
        return ()

    @abstractmethod
    def needs_ordinals(self, options: Values) -> bool:
        """Whether pages need ordinals: a count of the run's items so far, exact whatever lane they are in.

        Pages that need it wait for each other, because only one at a time can know the number before it.
        """
