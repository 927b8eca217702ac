"""Indicators: each measures one thing and says whether a page may start now. Those of PostgreSQL itself are here."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar, Literal

from sqlalchemy import TextClause, bindparam

from backfill_tasks.engine.database import load_sql, statement

Answer = Literal["go", "wait", "unknown"]
Unit = Literal["seconds", "sessions", "ratio"]

#: The row of a query: column by name.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """What an indicator says: its answer, what it measured and its threshold in words, and why it answers so.

    `reason` is empty for *go* without a limit; for *wait* it is what an operator reads where a run stands, for
    *unknown* what it would take to know. `measured` is the same as `value` for machines, in the indicator's `unit`;
    None where it could not be measured, which is *unknown*, or *wait* for an indicator that fails closed. `limit`: the
    most items that a page may have, which then is the only one at work; None: as many as it would.
    """

    indicator: str
    answer: Answer
    value: str
    threshold: str
    reason: str = ""
    measured: float | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Query:
    """What is asked of PostgreSQL: a SELECT of exactly one row, and the values of its parameters.

    Columns come back as JSON has them. What several indicators ask with equal queries is asked once.
    """

    text: TextClause
    values: tuple[tuple[str, Any], ...] = ()

    @property
    def statement(self) -> TextClause:
        """With its values, by names that no other query has."""
        return self.text.bindparams(*(bindparam(name, value, unique=True) for name, value in self.values))


class Indicator(ABC):
    """One thing that is measured before pages start: a query that takes a millisecond or two, and what its row means.

    An error of the query, and whatever `judge` raises, count as *unknown* and stop nothing; unless the indicator fails
    closed: then pages wait until it can be measured, or until its threshold is "off".
    """

    name: ClassVar[str]
    #: The base unit in which a reading is handed to machines, and how many of what `compare` gets make one.
    unit: ClassVar[Unit] = "seconds"
    per_unit: ClassVar[float] = 1
    #: Whether pages wait while it can't be measured. True for a guard without which the host could come to harm.
    fails_closed: ClassVar[bool] = False

    @property
    @abstractmethod
    def threshold(self) -> str:
        """The threshold in words; "off" where the indicator is not asked."""

    @property
    @abstractmethod
    def query(self) -> Query:
        """What is measured."""

    @abstractmethod
    def judge(self, row: Row) -> Reading:
        """What it means."""

    @property
    def diagnosis(self) -> Query | None:
        """What to ask the catalogs when the query has failed, for `unmeasured` to name the fix; None: nothing.

        Asked of an indicator that fails closed, and of no other.
        """
        return None

    def unmeasured(self, why: str, diagnosis: Row | None) -> Reading:  # noqa: ARG002  for those that have one
        """Return the reading of an indicator that failed: *unknown*, or *wait* if it fails closed.

        `why` is the error in words; `diagnosis`, the row that its query of that name answered.
        """
        reading = self.unknown(why)
        return replace(reading, answer="wait") if self.fails_closed and self.threshold != "off" else reading

    def compare(self, value: float, most: float, shown: str, reason: str) -> Reading:
        """*wait* for this reason if a value is over the most that is allowed, else *go*."""
        over = value > most
        answer: Answer = "wait" if over else "go"
        return Reading(self.name, answer, shown, self.threshold, reason if over else "", float(value) / self.per_unit)

    def unknown(self, reason: str) -> Reading:
        """*unknown*, and what it would take to know."""
        return Reading(self.name, "unknown", "-", self.threshold, reason)


@dataclass(frozen=True)
class _Statistics(Indicator):
    """An indicator of the server's own statistics, which a role sees of its own sessions only unless it may see all."""

    most: float | None
    suffix: ClassVar[str] = ""

    @property
    def threshold(self) -> str:
        """The most that is allowed, with its unit."""
        return "off" if self.most is None else f"{self.most:g}{self.suffix}"

    @property
    def query(self) -> Query:
        """Of the server's sessions, unless it is another."""
        return Query(statement(load_sql("backfill_tasks.engine", "sql/sessions.sql")))

    def judge(self, row: Row) -> Reading:
        """What the statistics mean, if this role may see what there is to see."""
        if not row["may_see_all"]:
            return self.unknown(f"this role may not see other sessions: GRANT pg_read_all_stats TO {row['role']}")
        return self.seen(row, inf if self.most is None else self.most)

    @abstractmethod
    def seen(self, row: Row, most: float) -> Reading:
        """What the statistics mean, all of which can be seen."""


@dataclass(frozen=True)
class ReplicationLag(_Statistics):
    """How far the slowest standby is behind, in seconds. One that is idle is not behind."""

    name: ClassVar[str] = "replication lag"
    suffix: ClassVar[str] = " s"

    @property
    def query(self) -> Query:
        """Of the server's standbys."""
        return Query(statement(load_sql("backfill_tasks.engine", "sql/standbys.sql")))

    def seen(self, row: Row, most: float) -> Reading:
        """A server without a standby has no lag."""
        shown = f"{row['lag']:.1f} s" if row["standbys"] else "no standby"
        return self.compare(row["lag"], most, shown, f"a standby is {shown} behind, over {self.threshold}")


@dataclass(frozen=True)
class LockWaits(_Statistics):
    """How many sessions of this database wait for a lock of another. Our own do not count."""

    name: ClassVar[str] = "lock waits"
    unit: ClassVar[Unit] = "sessions"

    def seen(self, row: Row, most: float) -> Reading:
        """Any that waits is somebody's transaction."""
        waiting = row["waiting"]
        who = "1 session waits" if waiting == 1 else f"{waiting} sessions wait"
        return self.compare(waiting, most, str(waiting), f"{who} for a lock, over {self.threshold}")


@dataclass(frozen=True)
class ActiveSessions(_Statistics):
    """How many of the server's connections are at work, in percent of max_connections, whatever their database."""

    name: ClassVar[str] = "active sessions"
    suffix: ClassVar[str] = " %"
    unit: ClassVar[Unit] = "ratio"
    per_unit: ClassVar[float] = 100

    def seen(self, row: Row, most: float) -> Reading:
        """The share counts, the number is shown."""
        shown = f"{row['active']} of {row['connections']}"
        reason = f"{shown} connections are at work, over {self.threshold}"
        return self.compare(100 * row["active"] / row["connections"], most, shown, reason)


@dataclass(frozen=True)
class OldestTransaction(_Statistics):
    """How long the oldest transaction of this database has been open: until it ends, no old row can be cleaned up."""

    name: ClassVar[str] = "oldest transaction"
    suffix: ClassVar[str] = " s"

    def seen(self, row: Row, most: float) -> Reading:
        """Its age, in seconds."""
        shown = f"{row['oldest_seconds']:,.1f} s"
        return self.compare(
            row["oldest_seconds"], most, shown, f"a transaction is open for {shown}, over {self.threshold}"
        )


@dataclass(frozen=True)
class OthersAtWork(_Statistics):
    """How many sessions of others have done something in this database in the last ten seconds. Our own do not count.

    Beside any, pages start, but one at a time, and with `most` items at the most: what a page writes and locks comes in
    one go, and the more that is, the longer a transaction of the host's waits that comes meanwhile. Where it can't be
    seen whether anybody is at work, somebody is.
    """

    name: ClassVar[str] = "others at work"
    unit: ClassVar[Unit] = "sessions"

    @property
    def threshold(self) -> str:
        """What a page may have beside any."""
        return "off" if self.most is None else f"any: {self.most:g} a page"

    def seen(self, row: Row, _most: float) -> Reading:
        """Any is somebody who may be waiting."""
        at_work = row["others_at_work"]
        found = self.compare(at_work, inf, str(at_work), "")
        who = "1 session of others is" if at_work == 1 else f"{at_work} sessions of others are"
        return self._limited(found, f"{who} at work") if at_work else found

    def unknown(self, reason: str) -> Reading:
        """Somebody may be at work."""
        return self._limited(super().unknown(reason), reason)

    def _limited(self, reading: Reading, reason: str) -> Reading:
        if self.most is None:
            return reading
        small = f"pages of {self.most:g} at the most, one at a time: {reason}"
        return replace(reading, limit=int(self.most), reason=small)


@dataclass(frozen=True)
class PageDuration(Indicator):
    """What the slowest of the lanes' last pages took. After one that took too long, all rest as long as it took.

    `most` in milliseconds. It is the ledger's own figure, and needs no rights but the ledger's.
    """

    most: float | None
    name: ClassVar[str] = "page duration"
    per_unit: ClassVar[float] = 1000

    @property
    def threshold(self) -> str:
        """In milliseconds."""
        return "off" if self.most is None else f"{self.most:g} ms"

    @property
    def query(self) -> Query:
        """The slowest page that has not been rested from."""
        text = (
            "SELECT coalesce(max(page_seconds), 0) AS seconds FROM backfill.lane"
            " WHERE moved_at + page_seconds * interval '1 second' > clock_timestamp()"
        )
        return Query(statement(text))

    def judge(self, row: Row) -> Reading:
        """Compare it with what a page may take."""
        took = 1000 * row["seconds"]
        most = inf if self.most is None else self.most
        return self.compare(took, most, f"{took:,.0f} ms", f"the last page took {took:,.0f} ms, over {self.threshold}")
