"""What holds pages back just now, measured."""

from sqlalchemy import Connection

from backfill_tasks.engine import schema
from backfill_tasks.engine.admission.indicators import PageDuration, Reading
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.errors import LedgerError
from backfill_tasks.options import Pace
from cli.context import Session


def readings(session: Session) -> list[Reading]:
    """What every indicator says, those of every backfill's queue included, whether pages ask it or not."""
    parts = session.parts
    pace = Pace(max_live_wait=session.settings.defaults["max_live_wait"])
    with parts.engine.begin() as connection:
        known = _has_ledger(connection)
        begin_read_only(connection, statement_ms=session.settings.statement_timeout_ms)
        own = [each for backfill in parts.backfills.values() for each in backfill.indicators(pace)]
        general = [each for each in parts.pressure.indicators if known or not isinstance(each, PageDuration)]
        return parts.pressure.readings(connection, [*own, *general])


def _has_ledger(connection: Connection) -> bool:
    """Whether there is a ledger that this role may read: without it, no page's duration is known."""
    try:
        return bool(schema.version(connection))
    except LedgerError:
        return False
