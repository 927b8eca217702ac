"""Pressure: all indicators asked together, and how long their answers hold."""

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

#: The longest that an indicator may take, in milliseconds: they are asked before a page, and nobody waits for them. One
#: that fails closed is asked a second time on its own, with more time: the page can't go on without its answer.
_PATIENCE_MS, _CLOSED_PATIENCE_MS = 100, 1_000


@dataclass(frozen=True)
class Verdict:
    """What all indicators say together.

    Attributes:
        wait: the first that says that no page should start now, with its reason in words; None if one may.
        small: the one with the lowest limit on a page, with its reason in words; None if none has any.
    """

    wait: Reading | None
    small: Reading | None

    @property
    def limit(self) -> int | None:
        """The most items that a page may have, which then is to be the only one at work; None: as many as it would."""
        return None if self.small is None else self.small.limit


@dataclass
class Pressure:
    """Asks before a page whether it may start, and how large it may be.

    Readings hold for `fresh_seconds` in this process: at full speed a page costs no more for being watched over, and
    what is measured (ages, counts) does not change so fast that it mattered.
    """

    indicators: Sequence[Indicator]
    fresh_seconds: float
    patience_ms: int = _PATIENCE_MS
    closed_patience_ms: int = _CLOSED_PATIENCE_MS
    _held: tuple[tuple[Indicator, ...], float, list[Reading]] = ((), 0.0, [])
    #: The names of those that could not answer the last time, and of those of which that has been logged.
    _broken: set[str] = field(default_factory=set)
    _logged: set[str] = field(default_factory=set)

    def ask(self, connection: Connection, own: Sequence[Indicator] = ()) -> Verdict:
        """What the indicators say of a page that is to start now.

        Args:
            connection: in a transaction; nothing that is asked leaves a trace in it.
            own: the backfill's own indicators, asked first.
        """
        wanted = tuple(each for each in (*own, *self.indicators) if each.threshold != "off")
        known, until, readings = self._held
        if wanted != known or time.monotonic() >= until:
            readings = self.readings(connection, wanted)
            self._held = (wanted, time.monotonic() + self.fresh_seconds, readings)
        return Verdict(
            wait=next((each for each in readings if each.answer == "wait"), None),
            small=min((each for each in readings if each.limit), key=lambda each: each.limit or inf, default=None),
        )

    def readings(self, connection: Connection, indicators: Sequence[Indicator]) -> list[Reading]:
        """What each of these says, in their order. What one says that can't answer is logged once: see `unmeasured`.

        All are asked in one statement, but those that could not answer the last time, which are asked one by one.

        Raises:
            DBAPIError: the connection was lost: there is nobody left to ask.
        """
        rows: dict[Query, Row] = {}
        try:
            asked = [each.query for each in indicators if each.name not in self._broken]
            rows = _rows(connection, asked, patience_ms=self.patience_ms)
        except Exception as error:  # which of them it was shows when each is asked for itself
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
        except Exception as error:  # whatever it raises, the page does not fail of it
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
        """What the catalogs say of an indicator that failed; None if they can't be asked either."""
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
    """The rows of all these queries, in one statement: what a page waits for are the ways to the server and back."""
    distinct = tuple(dict.fromkeys(queries))
    if not distinct:
        return {}
    with _aside(connection, patience_ms):
        return dict(zip(distinct, connection.execute(_together(distinct)).one(), strict=True))


@lru_cache(maxsize=8)
def _together(queries: tuple[Query, ...]) -> Select[Any]:
    """Each query as a column that holds its row. It takes a while to put together, and is nearly always the same."""
    rows = [query.statement.columns().subquery(f"row_{number}") for number, query in enumerate(queries)]
    return select(*(select(func.to_jsonb(literal_column(row.name))).select_from(row).scalar_subquery() for row in rows))


@contextmanager
def _aside(connection: Connection, patience_ms: int) -> Iterator[None]:
    """A part of a transaction with a time-out of its own. Neither that stays, nor the error of a statement."""
    connection.exec_driver_sql(f"SAVEPOINT aside; SET LOCAL statement_timeout = '{patience_ms}ms'")
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT aside; RELEASE SAVEPOINT aside")
