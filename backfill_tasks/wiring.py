"""Assembles the engine's parts from the settings, for a worker's child or a command."""

from dataclasses import dataclass

from sqlalchemy import Engine

from backfill_tasks.engine.admission import indicators
from backfill_tasks.engine.admission.gate import Gate
from backfill_tasks.engine.admission.pressure import Pressure
from backfill_tasks.engine.chain import Chain, Send
from backfill_tasks.engine.contract import Host
from backfill_tasks.engine.cursors import LiveCursors
from backfill_tasks.engine.database import Address, connect, parse_url
from backfill_tasks.engine.page.transaction import Pages
from backfill_tasks.engine.quarantine import Retrier
from backfill_tasks.engine.runs import Runs
from backfill_tasks.engine.watchdog import Watchdog
from backfill_tasks.registry import Backfills, on_host
from backfill_tasks.settings import Settings

#: The maximum age of a reading of the indicators, in seconds.
_FRESH_SECONDS = 1.0


@dataclass(frozen=True)
class Parts:
    """The assembled engine. Connections are opened on first use."""

    address: Address
    engine: Engine
    backfills: Backfills
    pressure: Pressure
    retrier: Retrier
    chain: Chain
    runs: Runs
    watchdog: Watchdog


def assemble(settings: Settings, send: Send, *, patience: int = 10) -> Parts:
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
    cursors = LiveCursors.connect(settings.redis_url, patience=patience)
    pressure = Pressure(_indicators(settings), min(_FRESH_SECONDS, settings.pressure_seconds))
    lock_ms, statement_ms = settings.lock_timeout_ms, settings.statement_timeout_ms
    gate = Gate(pressure, lock_ms=lock_ms, statement_ms=statement_ms)
    pages = Pages(
        engine,
        cursors,
        known,
        gate,
        lock_ms=lock_ms,
        statement_ms=statement_ms,
        wait_seconds=settings.pressure_seconds,
    )
    chain = Chain(engine, cursors, pages, send, most_retries=settings.page_retries)
    retrier = Retrier(engine, known, gate, lock_ms=lock_ms, statement_ms=statement_ms)
    return Parts(address, engine, known, pressure, retrier, chain, Runs(engine, chain, known), Watchdog(engine, chain))


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
