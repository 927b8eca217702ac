"""Assembles the engine's parts from the settings, for a worker's child or a command."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from backfill_tasks.engine.admission import indicators
from backfill_tasks.engine.admission.pressure import Pressure
from backfill_tasks.engine.contract import Host
from backfill_tasks.engine.database import Address, connect, parse_url
from backfill_tasks.engine.runs import Runs
from backfill_tasks.registry import Backfills, on_host
from backfill_tasks.settings import Settings

if TYPE_CHECKING:
    from backfill_tasks.engine.admission.gate import Gate
    from backfill_tasks.engine.chain import Chain, Send
    from backfill_tasks.engine.quarantine import Retrier
    from backfill_tasks.engine.watchdog import Watchdog

#: The maximum age of a reading of the indicators, in seconds.
_FRESH_SECONDS = 1.0


@dataclass(frozen=True)
class Parts:
    """The engine's parts. Those that only some commands need are imported and assembled on first use.

    Connections are opened on first use, too.
    """

    address: Address
    engine: Engine
    backfills: Backfills
    pressure: Pressure
    settings: Settings
    send: "Send"
    patience: int

    @property
    def runs(self) -> Runs:
        """Starts, resumes and steers runs."""
        return Runs(self.engine, lambda: self.chain, self.backfills)

    def assemble_early(self) -> None:
        """Assemble what a page needs, so that no first page waits for it."""
        _ = self.chain

    @cached_property
    def chain(self) -> "Chain":
        """Does pages, and sends the next ones."""
        from backfill_tasks.engine.chain import Chain
        from backfill_tasks.engine.cursors import LiveCursors
        from backfill_tasks.engine.page.transaction import Pages

        cursors = LiveCursors.connect(self.settings.redis_url, patience=self.patience)
        pages = Pages(
            self.engine,
            cursors,
            self.backfills,
            self._gate,
            lock_ms=self.settings.lock_timeout_ms,
            statement_ms=self.settings.statement_timeout_ms,
            wait_seconds=self.settings.pressure_seconds,
        )
        return Chain(self.engine, cursors, pages, self.send, most_retries=self.settings.page_retries)

    @cached_property
    def retrier(self) -> "Retrier":
        """Retries quarantined items."""
        from backfill_tasks.engine.quarantine import Retrier

        lock_ms, statement_ms = self.settings.lock_timeout_ms, self.settings.statement_timeout_ms
        return Retrier(self.engine, self.backfills, self._gate, lock_ms=lock_ms, statement_ms=statement_ms)

    @cached_property
    def watchdog(self) -> "Watchdog":
        """Reseeds stalled lanes."""
        from backfill_tasks.engine.watchdog import Watchdog

        return Watchdog(self.engine, self.chain)

    @cached_property
    def _gate(self) -> "Gate":
        from backfill_tasks.engine.admission.gate import Gate

        lock_ms, statement_ms = self.settings.lock_timeout_ms, self.settings.statement_timeout_ms
        return Gate(self.pressure, lock_ms=lock_ms, statement_ms=statement_ms)


def assemble(settings: Settings, send: "Send", *, patience: int = 10) -> Parts:
    """Assemble the engine for the database and the Redis of the settings.

    Args:
        settings: the settings.
        send: sends a page's message.
        patience: how often a call to Redis is tried, with growing waits.

    Raises:
        ConfigurationError: the database's URL is missing or can't be read.
    """
    address = parse_url(settings.required_database_url())
    engine = connect(address, statement_ms=settings.statement_timeout_ms)
    known = on_host(Host(address.schema, settings))
    pressure = Pressure(_indicators(settings), min(_FRESH_SECONDS, settings.pressure_seconds))
    return Parts(address, engine, known, pressure, settings, send, patience)


def _indicators(settings: Settings) -> list[indicators.Indicator]:
    """Return PostgreSQL's own indicators, with the thresholds of the settings."""
    return [
        indicators.ReplicationLag(settings.max_replication_lag),
        indicators.LockWaits(settings.max_lock_waits),
        indicators.ActiveSessions(settings.max_active_percent),
        indicators.OldestTransaction(settings.max_transaction_age),
        indicators.OthersAtWork(settings.busy_limit),
        indicators.PageDuration(settings.max_page_ms),
    ]
