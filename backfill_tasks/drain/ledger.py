"""The drain in the ledger: its orders, its state, its lease and its calls. Each function is one step of a transaction.

The generation fences: a worker takes the lease with a conditional UPDATE that increments it, and every later step of
that worker checks it. A worker whose lease another one has taken, however long it was frozen, starts no call, and what
its calls report doesn't count.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

from sqlalchemy import Connection, Row, TextClause

from backfill_tasks.drain.answers import Answer, Counts
from backfill_tasks.drain.orders import Orders
from backfill_tasks.engine.database import load_sql, statement
from backfill_tasks.engine.ledger import note

State = Literal["calling", "waiting", "backing off", "paused", "stopped"]

#: How long a lease lasts without being renewed, in seconds.
LEASE_SECONDS = 20.0

#: The window over which the pace is measured, and the shortest one that gives a pace, in seconds.
_RATE_SECONDS, _ENOUGH_SECONDS = 600.0, 30.0

#: The failure rate is that of so many jobs, the latest.
JUDGED_JOBS = 50

#: How many calls are kept.
_CALLS = 1_000

#: The ledger's version that has the drain.
VERSION = 7


@dataclass(frozen=True)
class LastAnswer:
    """The answer that arrived last, and when."""

    at: datetime
    result: str
    shown: str


@dataclass(frozen=True)
class Total:
    """All calls with one result, and the jobs that the host has reported for them."""

    result: str
    calls: int
    processed: int
    succeeded: int
    failed: int
    retried: int
    skipped: int
    released: int


@dataclass(frozen=True)
class Drain:
    """The drain as recorded in the ledger. Times are the database's.

    Attributes:
        orders: what the operator wants.
        started_by, started_at: by whom and when it was started.
        state: calling, waiting, backing off, paused or stopped.
        kind, reason: why, in a word that never changes and in a sentence.
        since: when it came into this state for this kind of reason.
        until_next: in how many seconds the next call may start; negative: it may have started already.
        failures: how many calls have failed since the last good one.
        in_flight: how many calls the host may be at work on.
        judged_jobs, judged_spoiled: the jobs that the failure rate is measured on, and the attempts that failed.
        per_minute: jobs per minute over the last ten minutes; None: too early to tell.
        looked_seconds: how many seconds ago a worker last looked; None: none has.
        holder: the worker that has the lease, or had it last.
        last: the last answer.
    """

    orders: Orders
    started_by: str
    started_at: datetime
    state: State
    kind: str
    reason: str | None
    since: datetime
    until_next: float
    failures: int
    in_flight: int
    judged_jobs: int
    judged_spoiled: int
    per_minute: float | None
    looked_seconds: float | None
    holder: str | None
    last: LastAnswer | None
    seen_at: datetime

    @property
    def is_active(self) -> bool:
        """Whether workers look after it."""
        return self.state != "stopped"

    @property
    def failure_rate(self) -> float | None:
        """The share of failed attempts among the latest jobs; None: there are none."""
        return self.judged_spoiled / self.judged_jobs if self.judged_jobs else None


def start(connection: Connection, orders: Orders, *, who: str) -> None:
    """Start the drain, or give an active one new orders, and record the event."""
    old = read(connection, call_seconds=0)
    connection.execute(_sql("start"), {**asdict(orders), "who": who})
    name, detail = "drain started", asdict(orders)
    if old is not None and old.is_active:
        before = asdict(old.orders)
        name, detail = (
            "drain tuned",
            {key: [before[key], value] for key, value in detail.items() if value != before[key]},
        )
    note(connection, None, name, detail, who=who)


def stop(connection: Connection, kind: str, reason: str, *, who: str) -> bool:
    """Stop the drain and record the event; return False if it isn't active. Calls in flight end on their own."""
    active = connection.execute(
        statement("SELECT state <> 'stopped' FROM backfill.drain FOR NO KEY UPDATE")
    ).scalar_one_or_none()
    if not active:
        return False
    move(connection, "stopped", kind, reason)
    note(connection, None, "drain stopped", {"reason": reason}, who=who)
    return True


def read(connection: Connection, *, call_seconds: float) -> Drain | None:
    """Return the drain; None if there has been none. A call takes `call_seconds` at the longest.

    A call is noted before it starts, and a worker starts it within a lease's time or not at all. So it may be in flight
    for both together.
    """
    longest = LEASE_SECONDS + call_seconds
    values = {"rate_seconds": _RATE_SECONDS, "jobs": JUDGED_JOBS, "in_flight_seconds": longest}
    row = connection.execute(_sql("read"), values).one_or_none()
    return None if row is None else _drain(row)


def totals(connection: Connection) -> list[Total]:
    """Return the totals of all calls, by result."""
    rows = connection.execute(statement("SELECT * FROM backfill.drain_total ORDER BY calls DESC, result"))
    return [Total(**row._mapping) for row in rows]  # noqa: SLF001  SQLAlchemy's name for a public attribute


def take(connection: Connection, *, who: str) -> int | None:
    """Take the lease and return its generation; None: another worker has it, or the drain isn't active."""
    found: int | None = connection.execute(_sql("take"), {"who": who, "seconds": LEASE_SECONDS}).scalar_one_or_none()
    return found


def renew(connection: Connection, generation: int) -> bool:
    """Extend the lease and lock the drain's row until the transaction ends; False: the lease or the drain is gone."""
    values = {"generation": generation, "seconds": LEASE_SECONDS}
    return connection.execute(_sql("renew"), values).one_or_none() is not None


def release(connection: Connection, generation: int) -> None:
    """Free the lease, if this is still its generation."""
    connection.execute(_sql("release"), {"generation": generation})


def move(
    connection: Connection,
    state: State,
    kind: str,
    reason: str | None,
    *,
    wait_seconds: float = 0.0,
    judges_anew: bool = False,
) -> None:
    """Set the state and why. The caller has locked the row.

    `wait_seconds`: the least time until the next call starts. `judges_anew`: the failure rate is measured on calls from
    now on only.
    """
    values = {"state": state, "kind": kind, "reason": reason, "wait_seconds": wait_seconds, "judges_anew": judges_anew}
    connection.execute(_sql("move"), values)


def open_call(connection: Connection, generation: int, *, every: float) -> int:
    """Note a call that is about to start, and that the next one starts `every` seconds later. Return its id."""
    values = {"generation": generation, "every": every}
    return int(connection.execute(_sql("open_call"), values).scalar_one())


def end_call(connection: Connection, call: int, generation: int, answer: Answer) -> bool:
    """End a call and return whether it counts: its worker still holds the lease. Locks the drain's row."""
    query = statement("SELECT generation FROM backfill.drain FOR NO KEY UPDATE")
    counts = connection.execute(query).scalar_one_or_none() == generation
    jobs = answer.counts or Counts(0, 0, 0, 0)
    values = {
        "id": call,
        "result": answer.result if counts else None,
        "shown": answer.shown if counts else None,
        "processed": jobs.processed if counts else 0,
        "spoiled": jobs.spoiled if counts else 0,
    }
    ended = connection.execute(_sql("end_call"), values).one_or_none() is not None
    if not (ended and counts):
        return False
    connection.execute(_sql("add"), {**_additions(jobs), "result": answer.result})
    connection.execute(
        statement("DELETE FROM backfill.drain_call WHERE id <= :newest - :kept"), {"newest": call, "kept": _CALLS}
    )
    return True


def succeed(connection: Connection) -> None:
    """Forget the failed calls: one was good."""
    connection.execute(statement("UPDATE backfill.drain SET failures = 0 WHERE failures > 0"))


def fail(connection: Connection, delay: Callable[[int], float]) -> None:
    """Count a failed call, and let the next one wait for `delay(failures since the last good one)` seconds."""
    counted = statement("UPDATE backfill.drain SET failures = failures + 1 RETURNING failures")
    failures = int(connection.execute(counted).scalar_one())
    connection.execute(
        statement(
            "UPDATE backfill.drain SET next_call_at = greatest(next_call_at, now() + :seconds * interval '1 second')"
        ),
        {"seconds": delay(failures)},
    )


def _additions(jobs: Counts) -> Mapping[str, int]:
    return {name: value for name, value in asdict(jobs).items() if name != "remaining"}


def _drain(row: Row[Any]) -> Drain:
    seconds = row.lately_seconds or 0.0
    return Drain(
        orders=Orders(
            row.url, row.every_seconds, row.parallel, row.until_done, row.max_failure_rate, row.max_live_wait
        ),
        started_by=row.started_by,
        started_at=row.started_at,
        state=row.state,
        kind=row.kind,
        reason=row.reason,
        since=row.since,
        until_next=row.until_next,
        failures=row.failures,
        in_flight=row.in_flight,
        judged_jobs=int(row.judged_jobs),
        judged_spoiled=int(row.judged_spoiled),
        per_minute=60 * row.lately_processed / seconds if seconds >= _ENOUGH_SECONDS else None,
        looked_seconds=None if row.looked_at is None else (row.seen_at - row.looked_at).total_seconds(),
        holder=row.holder,
        last=None if row.last_at is None else LastAnswer(row.last_at, row.last_result, row.last_shown),
        seen_at=row.seen_at,
    )


@cache
def _sql(name: str) -> TextClause:
    """Return the statement of a file in sql/."""
    return statement(load_sql("backfill_tasks.drain", f"sql/{name}.sql"))
