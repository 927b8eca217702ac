"""Writes the results of paid requests: a passing fault is ridden out, and a row that the host refuses fails alone."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.database import is_transient, reason
from backfill_tasks.errors import BackfillError
from backfill_tasks.scoring.claims import Claims, Result
from backfill_tasks.scoring.written import Written

logger = logging.getLogger(__name__)

#: How long the results of paid requests are tried to be written, and the longest wait between two tries, in seconds.
_WRITE_SECONDS = 300.0
_LONGEST_WAIT = 5.0

Also = Callable[[Connection], None]
"""What the ledger records together with the results."""


def no_more(_: Connection) -> None:
    """Record nothing."""


@dataclass(frozen=True)
class Writer:
    """Writes results of jobs that a batch or a submission holds."""

    engine: Engine
    held: Claims

    def write(self, results: Sequence[Result], also: Also = no_more) -> Written:
        """Write results, and what the ledger records with them, in one transaction.

        If the host refuses a row, they are written in several transactions, of which the last one has the record.

        Raises:
            BackfillError: the host's database refuses even the end of a failed job.
            DBAPIError: the database was away for five minutes.
        """
        deadline, wait = time.monotonic() + _WRITE_SECONDS, 0.1
        while True:
            try:
                with self.engine.begin() as connection:
                    written = self.held.finish(connection, results)
                    also(connection)
                    return written
            except DBAPIError as error:
                if not is_transient(error):
                    return self._write_apart(results, also, reason(error))
                if time.monotonic() > deadline:
                    raise
                logger.warning("a batch's results wait for the database: %s", reason(error))
            time.sleep(wait)
            wait = min(_LONGEST_WAIT, 2 * wait)

    def _write_apart(self, results: Sequence[Result], also: Also, why: str) -> Written:
        """Write results of which the database refuses one: bisect, until only that job fails, with the reason."""
        if len(results) <= 1:
            if not results or results[0].kind == "failed":
                raise BackfillError(f"the host's database refuses the end of a job: {why}")
            return self.write([replace(results[0], kind="failed", score=None, error=why)], also)
        middle = len(results) // 2
        first = self.write(results[:middle])
        return first + self.write(results[middle:], also)
