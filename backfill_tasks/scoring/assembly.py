"""Puts together what scores leads here."""

from sqlalchemy import Engine

from backfill_tasks.engine.database import connect, parse_url
from backfill_tasks.scoring import scorers
from backfill_tasks.scoring.message import Send
from backfill_tasks.scoring.work import Work
from backfill_tasks.settings import Settings


def assemble(settings: Settings, send: Send, *, engine: Engine | None = None) -> Work:
    """Assemble what scores leads here.

    Args:
        settings: the settings.
        send: sends a batch's message.
        engine: the connection to the database; default: a new one.

    Raises:
        ConfigurationError: the database's URL is missing or can't be read.
    """
    address = parse_url(settings.required_database_url())
    engine = engine or connect(address, statement_ms=settings.statement_timeout_ms)
    return Work(engine, address.schema, scorers.installed(), send, settings.lock_timeout_ms)
