"""Puts the parts together from the settings: what a worker's child needs, and what a command needs."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine

from backfill_tasks.engine import live
from backfill_tasks.engine.backfill import Backfill
from backfill_tasks.engine.chain import Chain, Send
from backfill_tasks.engine.database import Address, connect, parse_url
from backfill_tasks.engine.live import LiveCursors
from backfill_tasks.engine.page import Pages
from backfill_tasks.engine.runs import Runs
from backfill_tasks.registry import backfills
from backfill_tasks.settings import Settings


@dataclass(frozen=True)
class Parts:
    """The engine, connected. Nothing is opened before it is first used."""

    address: Address
    engine: Engine
    backfills: Mapping[str, Backfill]
    chain: Chain
    runs: Runs


def assemble(settings: Settings, send: Send, *, patience: int = 10) -> Parts:
    """Connect the engine to the database and the Redis of the settings.

    Args:
        settings: the settings.
        send: puts a page's message on its way.
        patience: how often a call to Redis is tried, with growing waits.

    Raises:
        ConfigurationError: the database's URL is missing or can't be read.
    """
    address = parse_url(settings.required_database_url())
    engine = connect(address)
    known = backfills(address.schema)
    cursors = LiveCursors(live.connect(settings.redis_url, patience=patience))
    pages = Pages(engine, cursors, known, lock_ms=settings.lock_timeout_ms, statement_ms=settings.statement_timeout_ms)
    chain = Chain(engine, cursors, pages, send)
    return Parts(address, engine, known, chain, Runs(engine, chain))
