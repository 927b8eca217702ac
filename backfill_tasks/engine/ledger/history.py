"""How a run went over its time: what its pages did, when it paused, when pages were put off and why."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from backfill_tasks.engine import states
from backfill_tasks.engine.ledger.quarantine import count_quarantined, quarantined
from backfill_tasks.engine.ledger.reading import Event, events, read_run
from backfill_tasks.engine.ledger.rows import sql_file
from backfill_tasks.engine.model import Quarantined, Run, RunId

#: A run's time is looked at in so many stretches at the most (a plot is hardly finer), and in no more than leave each
#: this many pages on average: a stretch that is shorter than a page would say nothing.
_MOST_BUCKETS = 400
_PAGES_EACH = 2

#: The shortest time that a run is taken to have lasted.
_LEAST = timedelta(milliseconds=1)

#: The events that halt a run, and those that end the halt.
_STOPS = frozenset(each.event for each in states.RUN if each.new in states.HALTED)
_ENDS = frozenset(each.event for each in states.RUN if each.new not in states.HALTED)


@dataclass(frozen=True)
class Span:
    """From when to when."""

    since: datetime
    until: datetime

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.until - self.since).total_seconds()


@dataclass(frozen=True)
class Bucket:
    """What the pages did that began in one stretch of a run's time.

    `median` and `longest` of what a page took, in seconds; None where there was no page.
    """

    span: Span
    pages: int = 0
    items: int = 0
    median: float | None = None
    longest: float | None = None


@dataclass(frozen=True)
class Hold:
    """What pages were put off for.

    Attributes:
        kind: the indicator's name, or another short name of the reason.
        pages: how many pages had to wait for it.
        seconds: for how long they were put off for it, all pages together.
        span: from the first to the last.
        reason: the last one in words.
        stretches: when any page waited; what is closer together than a 400th of the run's time is one stretch.
    """

    kind: str
    pages: int
    seconds: float
    span: Span
    reason: str
    stretches: tuple[Span, ...]


@dataclass(frozen=True)
class History:
    """All that the ledger tells of a run, as of one moment.

    `quarantined` are the first items that are in quarantine; `in_quarantine`, how many there are.
    """

    run: Run
    timeline: Sequence[Bucket]
    holds: Sequence[Hold]
    events: Sequence[Event]
    quarantined: Sequence[Quarantined]
    in_quarantine: int

    @property
    def pauses(self) -> list[Span]:
        """When the run stood."""
        return pauses(self.run, self.events)


def read_history(connection: Connection, run: RunId, *, most: int) -> History | None:
    """A run's history with up to so many of its quarantined items; None if there is no such run.

    The transaction becomes one that reads, and that sees one moment however much goes on meanwhile: it must be new.
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
    """A run's time: from its start to its end, or to the moment it was read."""
    ended = run.finished_at or run.seen_at
    return Span(run.started_at, max(ended, run.started_at + _LEAST))


def timeline(connection: Connection, run: Run) -> list[Bucket]:
    """A run's pages over its time, in stretches of equal length without a gap; counted in the database."""
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
    """What pages of a run were put off for, and when, by kind; none of it after the run's end."""
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
    """When a run stood because it was paused or had failed, out of its events in order."""
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
