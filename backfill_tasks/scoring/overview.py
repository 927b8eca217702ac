"""Scoring here as a reader sees it: the newest session, and the jobs that wait for it."""

from dataclasses import dataclass

from sqlalchemy import Connection

from backfill_tasks.scoring import sessions
from backfill_tasks.scoring.jobs import KEY_PREFIX
from backfill_tasks.scoring.sessions import Session
from backfill_tasks.scoring.statements import file

#: Waiting jobs are counted up to this number.
_MOST = 10_000


@dataclass(frozen=True)
class Overview:
    """Scoring here, and our waiting jobs.

    Attributes:
        session: the running session, or else the newest; None: there has been none.
        due: how many of our jobs are due, and so wait for whoever comes first.
        reserved: how many wait for our own scorers, because they aren't due yet.
        first_due_seconds: in how many seconds the first of these comes due for the host's runner; None: there is none.
    """

    session: Session | None
    due: int
    reserved: int
    first_due_seconds: float | None

    @property
    def alive(self) -> int:
        """How many slots of a running session show life."""
        return self.session.alive if self.session is not None and self.session.state == "running" else 0


def overview(connection: Connection, schema: str) -> Overview:
    """Return scoring as of now."""
    newest = sessions.newest(connection)
    session = None if newest is None else sessions.read(connection, newest)
    row = connection.execute(file("waiting", schema), {"key_prefix": KEY_PREFIX, "most": _MOST}).one()
    return Overview(session, row.due, row.reserved, row.first_due_seconds)
