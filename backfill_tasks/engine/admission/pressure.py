"""Pressure: ask all indicators together and cache their readings."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf
from typing import Any

from sqlalchemy import Connection, Select, func, literal_column, select
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.admission.indicators import Indicator, Query, Reading, Row
from backfill_tasks.engine.database import reason

logger = logging.getLogger(__name__)

#: The statement time-out for the indicators, in milliseconds: they run before a page and must not slow it down. One
#: that fails closed is retried on its own with more time, because the page can't start without its answer.
_PATIENCE_MS, _CLOSED_PATIENCE_MS = 100, 1_000


@dataclass(frozen=True)
class Verdict:
    """The combined answer of all indicators.

    Attributes:
        wait: the first reading that denies a page, with its reason in words; None if a page may start.
        small: the reading with the lowest page limit, with its reason in words; None if there is no limit.
    """

    wait: Reading | None
    small: Reading | None

    @property
    def limit(self) -> int | None:
        """The most items of the page, which must then be the only one in flight; None: no limit."""
        return None if self.small is None else self.small.limit


@dataclass
class Pressure:
    """Asks the indicators whether a page may start, and how large it may be.

    Each process caches readings for `fresh_seconds`: so the indicators cost a run at full speed next to nothing, and
    the measured ages and counts don't change fast enough for it to matter.
    """

    indicators: Sequence[Indicator]
    fresh_seconds: float
    patience_ms: int = _PATIENCE_MS
    closed_patience_ms: int = _CLOSED_PATIENCE_MS
    _last: tuple[tuple[Indicator, ...], float, list[Reading]] = ((), 0.0, [])
    #: The names of the indicators whose last query failed, and of those whose failure has been logged.
    _broken: set[str] = field(default_factory=set)
    _logged: set[str] = field(default_factory=set)

    def ask(self, connection: Connection, own: Sequence[Indicator] = ()) -> Verdict:
        """Return the verdict on a page that is about to start.

        Args:
            connection: in a transaction, which stays as it is.
            own: the backfill's own indicators, asked first.
        """
        wanted = tuple(each for each in (*own, *self.indicators) if each.threshold != "off")
        known, until, readings = self._last
        if wanted != known or time.monotonic() >= until:
            readings = self.readings(connection, wanted)
            self._last = (wanted, time.monotonic() + self.fresh_seconds, readings)
        return Verdict(
            wait=next((each for each in readings if each.answer == "wait"), None),
            small=min((each for each in readings if each.limit), key=lambda each: each.limit or inf, default=None),
        )

    def readings(self, connection: Connection, indicators: Sequence[Indicator]) -> list[Reading]:
        """Return each indicator's reading, in order; log an indicator's first failure (see `unmeasured`).

        One statement asks all of them, except those that failed the last time, which are asked one by one.

        Raises:
            DBAPIError: the connection was lost.
        """
        rows: dict[Query, Row] = {}
        try:
            asked = [each.query for each in indicators if each.name not in self._broken]
            rows = _rows(connection, asked, patience_ms=self.patience_ms)
        except Exception as error:  # asking one by one shows which one failed
            if _is_lost(error):
                raise
        return [self._reading(connection, each, rows) for each in indicators]

    def _reading(self, connection: Connection, indicator: Indicator, rows: dict[Query, Row]) -> Reading:
        try:
            query = indicator.query
            if query not in rows:
                patience_ms = self.closed_patience_ms if indicator.fails_closed else self.patience_ms
                rows |= _rows(connection, [query], patience_ms=patience_ms)
            reading = indicator.judge(rows[query])
        except Exception as error:  # an indicator's error must not fail the page
            if _is_lost(error):
                raise
            return self._unmeasured(connection, indicator, error)
        self._broken.discard(indicator.name)
        return reading

    def _unmeasured(self, connection: Connection, indicator: Indicator, error: Exception) -> Reading:
        first, *_ = str(error).splitlines() or [""]
        why = reason(error) if isinstance(error, DBAPIError) else f"{type(error).__name__}: {first}"
        reading = indicator.unmeasured(why, self._diagnosis(connection, indicator) if indicator.fails_closed else None)
        if indicator.name not in self._logged:
            means = "pages wait until it can" if reading.answer == "wait" else "is passed over"
            logger.warning("an indicator can't answer and %s: %s: %s", means, indicator.name, why)
        self._logged.add(indicator.name)
        self._broken.add(indicator.name)
        return reading

    def _diagnosis(self, connection: Connection, indicator: Indicator) -> Row | None:
        """Return the row of a failed indicator's diagnosis query; None if there is none, or it fails too."""
        query = indicator.diagnosis
        try:
            return None if query is None else _rows(connection, [query], patience_ms=_CLOSED_PATIENCE_MS)[query]
        except DBAPIError as error:
            if _is_lost(error):
                raise
            return None


def _is_lost(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _rows(connection: Connection, queries: Iterable[Query], *, patience_ms: int) -> dict[Query, Row]:
    """Return the rows of all these queries, fetched by one statement: round trips are what delays a page."""
    distinct = tuple(dict.fromkeys(queries))
    if not distinct:
        return {}
    with _aside(connection, patience_ms):
        return dict(zip(distinct, connection.execute(_together(distinct)).one(), strict=True))


@lru_cache(maxsize=8)
def _together(queries: tuple[Query, ...]) -> Select[Any]:
    """Return a SELECT with each query's row as a JSON column.

    Cached: it is slow to build and nearly always the same.
    """
    rows = [query.statement.columns().subquery(f"row_{number}") for number, query in enumerate(queries)]
    return select(*(select(func.to_jsonb(literal_column(row.name))).select_from(row).scalar_subquery() for row in rows))


@contextmanager
def _aside(connection: Connection, patience_ms: int) -> Iterator[None]:
    """Run a part of a transaction with its own statement time-out; then undo the time-out and any error."""
    connection.exec_driver_sql(f"SAVEPOINT aside; SET LOCAL statement_timeout = '{patience_ms}ms'")
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT aside; RELEASE SAVEPOINT aside")
