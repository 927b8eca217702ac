"""A slot's turn: what a batch is given, and how it ends."""

import logging
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.database import reason
from backfill_tasks.scoring import sessions
from backfill_tasks.scoring.contract import AnyScorer
from backfill_tasks.scoring.message import ScoreMessage
from backfill_tasks.scoring.sessions import BEAT_SECONDS, Begun
from backfill_tasks.scoring.states import SessionState
from backfill_tasks.scoring.written import NOTHING, Written

logger = logging.getLogger(__name__)

#: How long a slot waits for claimable jobs, or for another batch's money, in seconds.
IDLE_SECONDS = 2.0

#: The longest backoff of a slot whose requests all fail, in seconds; the waits double.
LONGEST_BACKOFF = 60.0


@dataclass(frozen=True)
class Ending:
    """How a batch ends.

    Attributes:
        written: what was written.
        delay: the seconds until the slot's next batch.
        reason: why it waits, or why the session ends.
        failing: how many batches in a row have got no answer at all.
        state: the session ends with it; None: it goes on.
        is_open: the slot has requests at a provider, so its chain goes on even if the session ends.
    """

    written: Written = NOTHING
    delay: float = 0.0
    reason: str | None = None
    failing: int = 0
    state: SessionState | None = None
    is_open: bool = False


@dataclass(frozen=True)
class Turn:
    """What a slot's batch is given: the database, the host's schema, and the batch that has begun."""

    engine: Engine
    schema: str
    message: ScoreMessage
    begun: Begun
    lock_ms: int

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Show signs of life from a thread while the block runs."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_SECONDS):
                try:
                    with self.engine.begin() as connection:
                        sessions.beat(connection, self.message)
                except DBAPIError as error:
                    logger.warning("a slot's sign of life failed: %s", reason(error))

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class DeferredScorer(AnyScorer):
    """Scores hours later: a turn of its slot only submits, polls or collects, and never waits for the provider."""

    @abstractmethod
    def take(self, turn: Turn) -> Ending:
        """Do what can be done now, and say when to come back.

        Raises:
            BackfillError: scoring can't go on until an operator acts.
            DBAPIError: the database failed.
        """
