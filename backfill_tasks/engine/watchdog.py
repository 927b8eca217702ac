"""The watchdog: it ends runs whose finisher died, and reseeds lanes that have lost their message."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import Engine

from backfill_tasks.engine import ledger, schema
from backfill_tasks.engine.chain import Chain
from backfill_tasks.engine.ledger import StalledLane

logger = logging.getLogger(__name__)

#: Returns the task ids of the messages that wait in the queue or are owned by a living worker.
OnTheirWay = Callable[[], Collection[str]]


@dataclass(frozen=True)
class Watchdog:
    """Looks after the lanes of all running runs. Several may do so at a time: only one of them reseeds a lane."""

    engine: Engine
    chain: Chain

    def look(self, *, stalled_seconds: float, on_their_way: OnTheirWay) -> list[StalledLane]:
        """End runs with nothing left to walk, reseed lanes that have lost their message, and return those lanes.

        Without a ledger there are none.

        Args:
            stalled_seconds: how long a lane may be still before it is checked.
            on_their_way: called only if a lane is still.
        """
        with self.engine.begin() as connection:
            if not schema.version(connection):
                return []
            unended = ledger.unended(connection)
        for run in unended:
            self.chain.finish(run)
        lost = self.lost(stalled_seconds=stalled_seconds, on_their_way=on_their_way)
        reseeded = [lane for lane in lost if self.chain.revive(lane)]
        for lane in reseeded:
            logger.warning("stalled lane reseeded: run=%s lane=%d page=%d", lane.run, lane.lane, lane.page)
        return reseeded

    def lost(self, *, stalled_seconds: float, on_their_way: OnTheirWay) -> list[StalledLane]:
        """Return the lanes that have lost their message, read-only. The arguments are those of `look`."""
        with self.engine.begin() as connection:
            candidates = ledger.stalled(connection, stalled_seconds)
        found = on_their_way() if candidates else ()
        return [lane for lane in candidates if lane.awaited.task_id not in found]
