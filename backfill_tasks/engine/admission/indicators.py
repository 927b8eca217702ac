"""Indicators: each measures one thing and says whether a page may start now. PostgreSQL's own are defined here."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar, Literal

from sqlalchemy import TextClause, bindparam

from backfill_tasks.engine.database import load_sql, statement

Answer = Literal["go", "wait", "unknown"]
Unit = Literal["seconds", "sessions", "ratio"]

#: A query's row: values by column name.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """An indicator's answer, its value and threshold in words, and the reason.

    `reason` is empty for *go* without a limit; for *wait* it tells an operator why the run waits, for *unknown* what is
    needed to measure it. `measured` is `value` for machines, in the indicator's `unit`; None if it could not be
    measured, which is *unknown*, or *wait* for an indicator that fails closed. `limit`: the most items the page may
    have, which must then be the only one in flight; None: no limit.
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
    """A question to PostgreSQL: a SELECT that returns exactly one row, and the values of its parameters.

    Columns are returned as JSON values. Indicators with equal queries share one execution.
    """

    text: TextClause
    values: tuple[tuple[str, Any], ...] = ()

    @property
    def statement(self) -> TextClause:
        """The statement with its values, bound to names that no other query uses."""
        return self.text.bindparams(*(bindparam(name, value, unique=True) for name, value in self.values))


class Indicator(ABC):
    """One measurement before a page starts: a query of a millisecond or two, and the meaning of its row.

    If the query fails or `judge` raises, the reading is *unknown* and stops nothing. If the indicator fails closed,
    pages wait until it can be measured or its threshold is "off".
    """

    name: ClassVar[str]
    #: The base unit of `Reading.measured`, and how many of the units passed to `compare` make one.
    unit: ClassVar[Unit] = "seconds"
    per_unit: ClassVar[float] = 1
    #: Whether pages wait while it can't be measured. True for a guard that protects the host.
    fails_closed: ClassVar[bool] = False

    @property
    @abstractmethod
    def threshold(self) -> str:
        """The threshold in words; "off" if the indicator is not asked."""

    @property
    @abstractmethod
    def query(self) -> Query:
        """The query that measures it."""

    @abstractmethod
    def judge(self, row: Row) -> Reading:
        """Return the reading that the query's row means."""

    @property
    def diagnosis(self) -> Query | None:
        """The query on the catalogs, after the measurement failed, that helps `unmeasured` name the fix; None: none.

        Used only for indicators that fail closed.
        """
        return None

    def unmeasured(self, why: str, diagnosis: Row | None) -> Reading:  # noqa: ARG002  for those with a diagnosis
        """Return the reading of an indicator that failed: *unknown*, or *wait* if it fails closed.

        `why` is the error in words; `diagnosis` is the row of the diagnosis query.
        """
        reading = self.unknown(why)
        return replace(reading, answer="wait") if self.fails_closed and self.threshold != "off" else reading

    def compare(self, value: float, most: float, shown: str, reason: str) -> Reading:
        """Return *wait* with this reason if a value exceeds its maximum, else *go*."""
        over = value > most
        answer: Answer = "wait" if over else "go"
        return Reading(self.name, answer, shown, self.threshold, reason if over else "", float(value) / self.per_unit)

    def unknown(self, reason: str) -> Reading:
        """Return *unknown*, with what is needed to measure it as the reason."""
        return Reading(self.name, "unknown", "-", self.threshold, reason)


@dataclass(frozen=True)
class _Statistics(Indicator):
    """An indicator of the server's statistics, in which a role sees only its own sessions unless it may see all."""

    most: float | None
    suffix: ClassVar[str] = ""

    @property
    def threshold(self) -> str:
        """The maximum, with its unit."""
        return "off" if self.most is None else f"{self.most:g}{self.suffix}"

    @property
    def query(self) -> Query:
        """The query on the server's sessions, unless a subclass has its own."""
        return Query(statement(load_sql("backfill_tasks.engine", "sql/sessions.sql")))

    def judge(self, row: Row) -> Reading:
        """Return the reading if this role may see all statistics, else *unknown*."""
        if not row["may_see_all"]:
            return self.unknown(f"this role may not see other sessions: GRANT pg_read_all_stats TO {row['role']}")
        return self.seen(row, inf if self.most is None else self.most)

    @abstractmethod
    def seen(self, row: Row, most: float) -> Reading:
        """Return the reading of statistics that this role can see in full."""


@dataclass(frozen=True)
class ReplicationLag(_Statistics):
    """The lag of the slowest standby, in seconds. An idle standby has no lag."""

    name: ClassVar[str] = "replication lag"
    suffix: ClassVar[str] = " s"

    @property
    def query(self) -> Query:
        """The query on the server's standbys."""
        return Query(statement(load_sql("backfill_tasks.engine", "sql/standbys.sql")))

    def seen(self, row: Row, most: float) -> Reading:
        """Return the reading of the lag; a server without a standby has none."""
        shown = f"{row['lag']:.1f} s" if row["standbys"] else "no standby"
        return self.compare(row["lag"], most, shown, f"a standby is {shown} behind, over {self.threshold}")


@dataclass(frozen=True)
class LockWaits(_Statistics):
    """The number of this database's sessions that wait for a lock of another session. Ours don't count."""

    name: ClassVar[str] = "lock waits"
    unit: ClassVar[Unit] = "sessions"

    def seen(self, row: Row, most: float) -> Reading:
        """Return the reading of the number of waiting sessions."""
        waiting = row["waiting"]
        who = "1 session waits" if waiting == 1 else f"{waiting} sessions wait"
        return self.compare(waiting, most, str(waiting), f"{who} for a lock, over {self.threshold}")


@dataclass(frozen=True)
class ActiveSessions(_Statistics):
    """The server's active connections, in percent of max_connections, across all databases."""

    name: ClassVar[str] = "active sessions"
    suffix: ClassVar[str] = " %"
    unit: ClassVar[Unit] = "ratio"
    per_unit: ClassVar[float] = 100

    def seen(self, row: Row, most: float) -> Reading:
        """Return the reading of the share; it shows the number."""
        shown = f"{row['active']} of {row['connections']}"
        reason = f"{shown} connections are active, over {self.threshold}"
        return self.compare(100 * row["active"] / row["connections"], most, shown, reason)


@dataclass(frozen=True)
class OldestTransaction(_Statistics):
    """The age of this database's oldest open transaction: until it ends, VACUUM can't remove old row versions."""

    name: ClassVar[str] = "oldest transaction"
    suffix: ClassVar[str] = " s"

    def seen(self, row: Row, most: float) -> Reading:
        """Return the reading of its age, in seconds."""
        shown = f"{row['oldest_seconds']:,.1f} s"
        return self.compare(
            row["oldest_seconds"], most, shown, f"a transaction has been open for {shown}, over {self.threshold}"
        )


@dataclass(frozen=True)
class OthersAtWork(_Statistics):
    """The number of other sessions that were active in this database in the last ten seconds. Ours don't count.

    If there are any, pages still start, but one at a time and with at most `most` items: a page writes and locks its
    rows at once, and the more there are, the longer a concurrent transaction of the host waits. If the sessions can't
    be seen, others are assumed to be active.
    """

    name: ClassVar[str] = "others at work"
    unit: ClassVar[Unit] = "sessions"

    @property
    def threshold(self) -> str:
        """The most items of a page while other sessions are active."""
        return "off" if self.most is None else f"any: {self.most:g} per page"

    def seen(self, row: Row, _most: float) -> Reading:
        """Return *go*, with a limit if other sessions are active."""
        at_work = row["others_at_work"]
        found = self.compare(at_work, inf, str(at_work), "")
        who = "1 other session is" if at_work == 1 else f"{at_work} other sessions are"
        return self._limited(found, f"{who} active") if at_work else found

    def unknown(self, reason: str) -> Reading:
        """Return *unknown* with a limit: other sessions may be active."""
        return self._limited(super().unknown(reason), reason)

    def _limited(self, reading: Reading, reason: str) -> Reading:
        if self.most is None:
            return reading
        small = f"one page at a time, of at most {self.most:g} items: {reason}"
        return replace(reading, limit=int(self.most), reason=small)


@dataclass(frozen=True)
class PageDuration(Indicator):
    """The duration of the slowest of the lanes' last pages. After a slow page all lanes rest for as long as it took.

    `most` is in milliseconds. The ledger itself records the duration, so no rights beyond the ledger's are needed.
    """

    most: float | None
    name: ClassVar[str] = "page duration"
    per_unit: ClassVar[float] = 1000

    @property
    def threshold(self) -> str:
        """The maximum in milliseconds."""
        return "off" if self.most is None else f"{self.most:g} ms"

    @property
    def query(self) -> Query:
        """The query for the slowest page whose rest isn't over."""
        text = (
            "SELECT coalesce(max(page_seconds), 0) AS seconds FROM backfill.lane"
            " WHERE moved_at + page_seconds * interval '1 second' > clock_timestamp()"
        )
        return Query(statement(text))

    def judge(self, row: Row) -> Reading:
        """Return the reading of the slowest page's duration."""
        took = 1000 * row["seconds"]
        most = inf if self.most is None else self.most
        return self.compare(took, most, f"{took:,.0f} ms", f"the last page took {took:,.0f} ms, over {self.threshold}")
