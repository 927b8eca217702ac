"""Pressure: all indicators asked together, and how long their answers hold."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.database import reason
from backfill_tasks.engine.indicators import Indicator, Reading

logger = logging.getLogger(__name__)

#: The longest that an indicator may take, in milliseconds: they are asked before a page, and nobody waits for them.
_PATIENCE_MS = 100
_TIME_OUT = text("SELECT set_config('statement_timeout', :patience, true)")


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
    _held: tuple[tuple[Indicator, ...], float, list[Reading]] = ((), 0.0, [])
    _broken: set[str] = field(default_factory=set)

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
        """What each of these says, in their order. One that can't answer says *unknown*, and that is logged once.

        Raises:
            DBAPIError: the connection was lost: there is nobody left to ask.
        """
        found: list[Reading] = []
        while len(found) < len(indicators):
            # All in one savepoint, which is rolled back: with it go the time-out, and the error of one that fails.
            with _aside(connection):
                try:
                    for indicator in indicators[len(found) :]:
                        found.append(indicator.read(connection))  # noqa: PERF401  what is found stays when the next fails
                except Exception as error:  # an indicator stops nothing, whatever it raises
                    if isinstance(error, DBAPIError) and error.connection_invalidated:
                        raise
                    found.append(self._unknown(indicators[len(found)], error))
        return found

    def _unknown(self, indicator: Indicator, error: Exception) -> Reading:
        why = reason(error) if isinstance(error, DBAPIError) else f"{type(error).__name__}: {error}"
        if indicator.name not in self._broken:
            logger.warning("an indicator can't answer and is passed over: %s: %s", indicator.name, why)
            self._broken.add(indicator.name)
        return indicator.unknown(why)


@contextmanager
def _aside(connection: Connection) -> Iterator[None]:
    """A part of a transaction with a time-out of its own, none of which stays."""
    nested = connection.begin_nested()
    try:
        connection.execute(_TIME_OUT, {"patience": f"{_PATIENCE_MS}ms"})
        yield
    finally:
        nested.rollback()
