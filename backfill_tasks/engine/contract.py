"""The contract between the engine and a backfill: what a backfill implements, and the types it uses."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from backfill_tasks.engine.admission.bound import Measurement
from backfill_tasks.engine.admission.indicators import Indicator
from backfill_tasks.engine.admission.rhythm import Rhythm
from backfill_tasks.engine.database import statement
from backfill_tasks.engine.distribution import Distribution
from backfill_tasks.engine.explanation import Explanation, Now, Passage
from backfill_tasks.engine.model import Bounds, PageResult, Run, Window
from backfill_tasks.engine.outcome import Outcome
from backfill_tasks.errors import HostError
from backfill_tasks.escaping import one_line
from backfill_tasks.options import Option, Pace, Values
from backfill_tasks.settings import Settings


@dataclass(frozen=True)
class Host:
    """The application that owns the database: the schema of its tables, and the settings of this process."""

    schema: str
    settings: Settings


@dataclass(frozen=True)
class PageContext:
    """The state of a run that its page needs.

    Attributes:
        options: the backfill's own parameters.
        started_at: when the run started.
        ordinal: the number of ordinals used before this page.
        spacing_ms: the time between the due times of two items, in milliseconds; None: items are not spread.
        due_at: the due time of the last spread item; this page's items come due after it, and never before now.
        at_once: whether items that are not spread come due at once, because the page was admitted for the host's next
            call.
    """

    options: Values
    started_at: datetime
    ordinal: int = 0
    spacing_ms: float | None = None
    due_at: datetime | None = None
    at_once: bool = False


class Queue(ABC):
    """The host's queue, as a bound that sizes itself needs it (`admission/sizing.py`). Times are Unix times."""

    @property
    @abstractmethod
    def usual(self) -> Rhythm:
        """The rhythm in which the host takes jobs, as the settings have it; measurements correct it."""

    @property
    @abstractmethod
    def lead_seconds(self) -> float:
        """How long before the host's next call jobs are added."""

    @abstractmethod
    def measure(self, connection: Connection, *, since: float, until: float) -> Measurement:
        """Measure the queue, in a few milliseconds, by existing indexes of the host.

        Args:
            connection: in the page's transaction, which has its turn.
            since: the host's last call.
            until: the host's next call.
        """

    @abstractmethod
    def set_back(self, connection: Connection, *, jobs: int, until: float, due: float) -> None:
        """Make our last jobs that are due by `until`, up to this many, due later. Running jobs aren't touched."""


@dataclass(frozen=True)
class Stretch:
    """The result of verifying a range.

    Attributes:
        cursor: the last id examined.
        missing: ids without any result.
        arrived: the number of items that became eligible too late for this run.
        looked_at: the number of rows examined, eligible or not.
        unresolved: ids whose job ended without a result, by the names in `Backfill.unresolved`.
        waiting: the number of items whose jobs still wait for the host.
        left_alone: ids in `missing` that another run would leave as they are.
        invalid: ids whose result can't be right.
    """

    cursor: str
    missing: Sequence[str]
    arrived: int
    looked_at: int
    unresolved: Mapping[str, Sequence[str]] = field(default_factory=dict)
    waiting: int = 0
    left_alone: Sequence[str] = ()
    invalid: Sequence[str] = ()


@dataclass(frozen=True)
class PageClaim:
    """The ledger's record of one page, to be verified against the database.

    `times`: when the page was committed, and when quarantined items of it succeeded later. `beside`: the counts of
    other runs' pages that share one of these times.
    """

    lane: int
    page: int
    lower: str | None
    cursor: str
    times: Sequence[datetime]
    counts: dict[str, int]
    beside: Sequence[dict[str, int]] = ()

    def most(self, name: str) -> int:
        """Return the most rows of a class that can carry the page's times: its own and those of `beside`."""
        return sum(counts.get(name, 0) for counts in (self.counts, *self.beside))


@dataclass(frozen=True)
class Backlog:
    """The host's queue, as the drain needs to know it.

    Attributes:
        next_due_seconds: in how many seconds our first waiting job comes due; 0 or less: it is due; None: none waits.
        is_running: whether the host is at work on one.
        live_wait_seconds: for how long the oldest due job of any other kind has waited; None: none is due.
    """

    next_due_seconds: float | None
    is_running: bool
    live_wait_seconds: float | None


@dataclass(frozen=True)
class Missing:
    """A prerequisite missing from the host's database, and the fix, each in words."""

    what: str
    fix: str


class RowChanged(Exception):  # noqa: N818  not an error: the host changed a row while the page read it
    """The host changed a row while the page read it; with a fresh snapshot the page will succeed."""


class ItemsFailed(Exception):  # noqa: N818  an item's failure, not the page's
    """A backfill's own code can't handle an item of the page. The engine finds the item and quarantines it.

    The text says why, on one line that repeats no value of a row: the ledger stores it.
    """

    @property
    def whole_reason(self) -> str:
        """The text with its cause, which may repeat values of a row: shown on an operator's request, never stored."""
        return f"{self}: {one_line(str(self.__cause__))}" if self.__cause__ else str(self)


class Backfill(ABC):
    """One backfill: how its table is split into lanes, and how a page of it is done.

    A connection passed to a method is inside a transaction that the engine begins and ends. Ids are compared in SQL
    only.
    """

    #: The name that `run` takes and the ledger records.
    name: str
    #: A one-line summary for `run --help`.
    summary: str = ""
    #: The classes of a page's items and their meanings, in display order; `read` and `quarantined` are the engine's
    #: own.
    classes: Mapping[str, str]
    #: Further classes, and their meanings, that only a dry run counts: items that a page passes without reading them.
    passed_over: Mapping[str, str] = MappingProxyType({})
    #: The plural noun for its items.
    items: str = "rows"
    #: Its own options; the command line refuses options of other backfills.
    options: Sequence[Option] = ()
    #: The classes whose items enqueue a new job in the host's queue. Empty for a backfill without jobs, to which no
    #: bound on jobs applies.
    jobs: Sequence[str] = ()
    #: The classes whose items' jobs a page writes: `jobs`, and those whose jobs were waiting already. Empty: `jobs`.
    enqueues: Sequence[str] = ()
    #: The classes whose items a page leaves as they are: each has a job that isn't this run's. Items of all other
    #: classes have their result at once.
    leaves_alone: Sequence[str] = ()
    #: The noun for what one of its jobs gives an item, for messages such as "3 jobs gave no score".
    result: str = "result"
    #: The past participle for an item that has its result, such as "scored".
    done: str = "done"
    #: Who gives an item its result, and how to say so, in display order.
    done_by: Mapping[str, str] = MappingProxyType({})
    #: The ways a job can end without a result, and their meanings, in display order.
    unresolved: Mapping[str, str] = MappingProxyType({})
    #: Further ways in which an enqueued item ends without a result, and their meanings: it or its job is gone.
    vanished: Mapping[str, str] = MappingProxyType({})
    #: The meaning of a result that can't be right; empty: `verify` doesn't look for any.
    invalid: str = ""
    #: Why another run would leave missing items as they are.
    left_alone: str = ""

    @property
    def without_result(self) -> Mapping[str, str]:
        """The ways in which an enqueued item ends without a result, and their meanings, in display order."""
        return {**self.unresolved, **self.vanished}

    @property
    def queue(self) -> Queue | None:
        """The host's queue, for a bound that sizes itself; None: it can't be measured, so the bound is a constant."""
        return None

    def on(self, host: Host) -> "Backfill":  # noqa: ARG002  a backfill without host settings stays as it is
        """Return this backfill for one host, configured with its schema and the settings this backfill uses.

        Called once per process, before any other method. Opens no connection.
        """
        return self

    def with_defaults(self, values: Values) -> dict[str, Any]:
        """Return a run's options, with defaults for options that are newer than the run."""
        return {each.name: values.get(each.name, each.default) for each in self.options}

    @abstractmethod
    def missing(self, connection: Connection, *, apply: bool) -> Sequence[Missing]:
        """Return the prerequisites missing from the host's database: tables, rights of this role."""

    def check_host(self, connection: Connection, *, apply: bool) -> None:
        """Refuse a host that this backfill can't work with.

        Raises:
            HostError: a table or a right of this role is missing; the text names the first one.
        """
        for lack in self.missing(connection, apply=apply):
            raise HostError(f"{lack.what}: {lack.fix}")

    @abstractmethod
    def check(self, connection: Connection, options: Values, *, apply: bool) -> None:
        """Refuse options and hosts that can't work.

        Raises:
            HostError: see `check_host`.
            UsageError: an option names something that does not exist.
        """

    @abstractmethod
    def split(
        self, connection: Connection, options: Values, *, after: str | None, lanes: int, smallest: int
    ) -> list[str]:
        """Return the upper bounds of up to `lanes` lanes of about equal size, each of at least `smallest` items.

        The bounds are in the database's sort order. The last is the table's greatest id, so the lanes together cover
        everything after `after`. Empty if there is nothing after it.
        """

    @abstractmethod
    def page(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Do one page. Its counts include `read` and every class, and the classes add up to `read`.

        Raises:
            RowChanged: the host changed a row while the page read it; the engine rolls back and retries.
        """

    def statements(
        self, connection: Connection, window: Window, context: PageContext
    ) -> Sequence[Callable[[], object]]:
        """Return calls that send a page's statements, for `doctor`, which plans the first that each call sends.

        No statement is executed. By default the only call is the page itself. A page with further statements, which use
        the first one's result, adds a call for each.
        """
        return [partial(self.page, connection, window, context)]

    @abstractmethod
    def dry_run(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Count what `page` would do, with the same selection and the same cursor, read-only."""

    @abstractmethod
    def verify(self, connection: Connection, window: Window, context: PageContext) -> Stretch:
        """Find items in the window that should have a result but don't, read-only."""

    @abstractmethod
    def verify_full(self, connection: Connection, stretches: Sequence[Bounds], context: PageContext) -> Stretch:
        """Return the same as `verify`, for all these stretches (at least one), with a query that needs no index."""

    @abstractmethod
    def recount(self, connection: Connection, claim: PageClaim) -> dict[str, int]:
        """Count in the database what a page claims to have done, for the classes that leave a trace there."""

    def recount_full(self, connection: Connection, claims: Sequence[PageClaim]) -> Sequence[dict[str, int]]:
        """Return the same as `recount` for each of these pages, with a query that needs no index."""
        return [self.recount(connection, claim) for claim in claims]

    @abstractmethod
    def previous_key(self, connection: Connection, item: str) -> str | None:
        """Return the greatest id before this one, in the database's sort order; None if there is none."""

    @abstractmethod
    def last_key(self, connection: Connection) -> str | None:
        """Return the table's greatest id, in the database's sort order; None if the table is empty."""

    def reached(self, connection: Connection, item: str, keys: Sequence[str]) -> Sequence[bool]:
        """Return for each of these keys whether an item isn't after it, in the order in which pages are walked.

        By default the keys are texts in the database's default order.
        """
        query = statement(
            "SELECT CAST(:item AS text) <= key FROM unnest(CAST(:keys AS text[])) WITH ORDINALITY AS each (key, place)"
            " ORDER BY place"
        )
        return connection.execute(query, {"item": item, "keys": list(keys)}).scalars().all()

    def explain(self, connection: Connection, now: Now, passages: Sequence[Passage]) -> Explanation:  # noqa: ARG002
        """Explain what became of an item, beyond what the ledger records. By default there is nothing to add.

        Args:
            connection: in a read-only transaction with a single snapshot.
            now: the item as a run would find it now.
            passages: what the newest runs have to do with it, newest first.
        """
        return Explanation()

    def overlap(self, options: Values, others: Values) -> str | None:  # noqa: ARG002  all items, whatever the options
        """Return in words which items runs with these options would both walk; None if there are none.

        Called before a run starts while another run of the same backfill is unfinished.
        """
        return f"all {self.items}"

    def pending(self, connection: Connection, most: int, context: PageContext | None = None) -> int:  # noqa: ARG002
        """Return how many jobs in the host's queue are ahead of one added now, counted up to `most`.

        These are this backfill's own that come due before the run's next one (without a context: before now), and those
        of others that have precedence. Zero for a backfill without jobs.
        """
        return 0

    def oldest_due_seconds(self, connection: Connection) -> float | None:  # noqa: ARG002  without jobs, none is due
        """Return for how many seconds the oldest due job of any kind has waited at the host; None if none is due."""
        return None

    def backlog(self, connection: Connection) -> Backlog | None:  # noqa: ARG002  without a queue, there is none
        """Return what of ours waits in the host's queue, and how long live jobs wait; None for one without jobs."""
        return None

    def outcome(self, connection: Connection, run: Run) -> Outcome | None:  # noqa: ARG002  without jobs, there is none
        """Return how the host has processed a run's own jobs; None for a backfill without jobs.

        The cost grows with the run, so it is read from time to time, never by pages.
        """
        return None

    def results_over_time(
        self,
        connection: Connection,  # noqa: ARG002  without jobs, results come with the pages
        run: Run,  # noqa: ARG002
        *,
        until: datetime,  # noqa: ARG002
        buckets: int,  # noqa: ARG002
    ) -> Sequence[int]:
        """Return how many enqueued items got their result in each of `buckets` equal stretches of the run's time.

        The time is that from the run's start until `until`. Empty for a backfill without jobs. Costs as much as
        `outcome`.
        """
        return ()

    def distribution(self, connection: Connection, run: Run) -> Distribution | None:  # noqa: ARG002  most results have no order
        """Return how many of a run's items have which result, by group; None for a backfill without such results.

        The cost grows with the run, so it is read for a report only.
        """
        return None

    def fills_queue(self, options: Values) -> bool:  # noqa: ARG002  most fill it or not, whatever the options
        """Return whether a run's jobs wait in the host's queue, so that the bounds on waiting jobs apply to the run."""
        return bool(self.jobs)

    def indicators(self, pace: Pace) -> Sequence[Indicator]:  # noqa: ARG002  without a queue, there is none to ask
        """Return the indicators of the host's queue, asked before a page in addition to PostgreSQL's own."""
        return ()

    @abstractmethod
    def needs_ordinals(self, options: Values) -> bool:
        """Return whether pages need ordinals: an exact count of the run's items so far, across all lanes.

        Pages that need ordinals take turns, because each must know the exact number before it.
        """
