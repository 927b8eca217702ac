"""A run's history: what its pages did over time, when it was paused, and when and why pages were postponed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from backfill_tasks.engine import states
from backfill_tasks.engine.distribution import Distribution
from backfill_tasks.engine.ledger.quarantine import count_quarantined, quarantined
from backfill_tasks.engine.ledger.reading import Event, events, read_run
from backfill_tasks.engine.ledger.rows import sql_file
from backfill_tasks.engine.model import Quarantined, Run, RunId

#: The most buckets of a timeline (a plot is hardly finer), and the fewest pages per bucket on average: a bucket shorter
#: than a page would show nothing.
_MOST_BUCKETS = 400
_PAGES_EACH = 2

#: The shortest duration reported for a run.
_LEAST = timedelta(milliseconds=1)

#: The events that halt a run, and those that end the halt.
_STOPS = frozenset(each.event for each in states.RUN if each.new in states.HALTED)
_ENDS = frozenset(each.event for each in states.RUN if each.new not in states.HALTED)


@dataclass(frozen=True)
class Span:
    """A time span."""

    since: datetime
    until: datetime

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return (self.until - self.since).total_seconds()


@dataclass(frozen=True)
class Bucket:
    """The pages that started in one time bucket of a run.

    `median` and `longest` are page durations in seconds; None if the bucket has no page.
    """

    span: Span
    pages: int = 0
    items: int = 0
    median: float | None = None
    longest: float | None = None


@dataclass(frozen=True)
class Hold:
    """The postponements of a run's pages for one kind of reason.

    Attributes:
        kind: the indicator's name, or another short name of the reason.
        pages: the number of pages that were postponed.
        seconds: the total postponement of all these pages, in seconds.
        span: from the first postponement to the last.
        reason: the most recent reason in words.
        stretches: when at least one page waited; gaps shorter than a 400th of the run's duration are closed.
    """

    kind: str
    pages: int
    seconds: float
    span: Span
    reason: str
    stretches: tuple[Span, ...]


@dataclass(frozen=True)
class History:
    """Everything the ledger records about a run, as of one moment, and the results of its items.

    Attributes:
        quarantined: the first items in quarantine.
        in_quarantine: the number of all of them.
        distribution: how many items have which result; None: the backfill has no such results, or `uncounted` says why
            they can't be counted just now.
    """

    run: Run
    timeline: Sequence[Bucket]
    holds: Sequence[Hold]
    events: Sequence[Event]
    quarantined: Sequence[Quarantined]
    in_quarantine: int
    distribution: Distribution | None = None
    uncounted: str | None = None

    @property
    def pauses(self) -> list[Span]:
        """When the run was paused or failed."""
        return pauses(self.run, self.events)


def read_history(connection: Connection, run: RunId, *, most: int) -> History | None:
    """Return a run's history with at most `most` quarantined items; None if there is no such run.

    The transaction must be new: it becomes read-only, with a single snapshot for all queries.
    """
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    found = read_run(connection, run)
    if found is None:
        return None
    return History(
        found,
        timeline(connection, found),
        holds(connection, found),
        events(connection, run),
        quarantined(connection, run, most=most),
        count_quarantined(connection, run),
    )


def time_of(run: Run) -> Span:
    """Return a run's time span: from its start to its end, or to the moment it was read; at least 1 ms."""
    ended = run.finished_at or run.seen_at
    return Span(run.started_at, max(ended, run.started_at + _LEAST))


def timeline(connection: Connection, run: Run) -> list[Bucket]:
    """Return a run's pages over time, counted by the database, in adjacent buckets of equal length."""
    time, number = time_of(run), _buckets(run)
    rows = connection.execute(
        sql_file("timeline"),
        {
            "run": run.id,
            "buckets": number,
            "since_epoch": time.since.timestamp(),
            "until_epoch": time.until.timestamp(),
        },
    )
    width = (time.until - time.since) / number
    edges = [*(time.since + width * index for index in range(number)), time.until]
    buckets = [Bucket(Span(edges[index], edges[index + 1])) for index in range(number)]
    for row in rows:
        span = buckets[row.bucket - 1].span
        buckets[row.bucket - 1] = Bucket(span, row.pages, int(row.items), row.median, row.longest)
    return buckets


def holds(connection: Connection, run: Run) -> list[Hold]:
    """Return the postponements of a run's pages by kind, clipped at the run's end."""
    time = time_of(run)
    gap = time.seconds / _MOST_BUCKETS
    stretches: dict[str, list[Span]] = defaultdict(list)
    for row in connection.execute(sql_file("hold_stretches"), {"run": run.id, "gap": gap}):
        stretches[row.kind].append(_within(time, row.since, row.until))
    rows = connection.execute(sql_file("holds"), {"run": run.id})
    return [
        Hold(
            row.kind,
            row.pages,
            row.seconds,
            _within(time, row.since, row.until),
            row.reason,
            tuple(stretches[row.kind]),
        )
        for row in rows
    ]


def pauses(run: Run, happened: Iterable[Event]) -> list[Span]:
    """Return when a run was paused or failed, derived from its events in order."""
    found: list[Span] = []
    since: datetime | None = None
    for each in happened:
        if each.name in _STOPS and since is None:
            since = each.at
        elif each.name in _ENDS and since is not None:
            found.append(Span(since, each.at))
            since = None
    ended = time_of(run).until
    if since is not None and since < ended:
        found.append(Span(since, ended))
    return found


def _buckets(run: Run) -> int:
    return max(1, min(_MOST_BUCKETS, run.pages // _PAGES_EACH))


def _within(time: Span, since: datetime, until: datetime) -> Span:
    return Span(min(since, time.until), min(until, time.until))
