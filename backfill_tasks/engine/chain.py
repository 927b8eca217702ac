"""The chain: do a page, send the next, move the live cursor and note in the same step that the next was sent.

A process may die between any two of these steps, and any message may come twice. What has been committed is never done
again (the fence), and whoever finds a committed page whose successor was not sent sends it, once.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Engine

from backfill_tasks.engine import ledger
from backfill_tasks.engine.cursors import LiveCursors
from backfill_tasks.engine.model import Lane, PageMessage, RunId
from backfill_tasks.engine.page.transaction import MOST_ATTEMPTS, Committed, Pages, PutOff, Refusal

logger = logging.getLogger(__name__)

#: How long a duplicate gives the process that committed the page to send the next one, in seconds. Far longer than it
#: takes (some milliseconds), far shorter than an operator notices.
_GRACE_SECONDS = 3.0
_LOOK_SECONDS = 0.05

Send = Callable[[PageMessage, float], None]
"""Puts a page's message on its way, to be taken up after so many seconds."""

Outcome = Literal["committed", "put off", "stopped"] | Refusal


@dataclass(frozen=True)
class Step:
    """What became of a page's message."""

    outcome: Outcome
    page: Committed | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Chain:
    """Walks lanes, one message at a time."""

    engine: Engine
    live: LiveCursors
    pages: Pages
    send: Send

    def step(self, message: PageMessage) -> Step:
        """Handle one message: do its page if it is the lane's next, and send the one after it.

        Raises:
            DBAPIError, RowChanged: the page could not be done now; nothing was changed.
        """
        done = self.pages.do(message)
        if isinstance(done, Committed):
            self._go_on(message, done)
            return Step("committed", done)
        if isinstance(done, PutOff):
            self.send(done.again, done.seconds)
            return Step("put off", reason=done.reason)
        if done.why == "poison":
            self.live.reset_attempts(message)  # whoever resumes the lane wants it tried again
            return self.stop(
                message, f"page {message.page} ended its worker {MOST_ATTEMPTS} times: see the workers' logs"
            )
        if done.why == "duplicate" and done.lane is not None and done.lane.page == message.page:
            self._take_over(message, done.lane)
        return Step(done.why)

    def stop(self, message: PageMessage, reason: str) -> Step:
        """End a lane that can't go on, and say why; the others go on."""
        with self.engine.begin() as connection:
            stopped = ledger.fail_lane(connection, message, reason)
        if not stopped:
            return Step("superseded")
        logger.error("lane stopped: %s: %s", message, reason)
        self.finish(message.run)
        return Step("stopped", reason=reason)

    def seed(self, run: RunId, lane: Lane) -> None:
        """Begin a lane's chain where the ledger has it."""
        first = PageMessage(run, lane.number, lane.page + 1, lane.generation)
        self.live.place(run, lane)
        self.send(first, 0.0)

    def reseed(self, run: RunId, numbers: list[int]) -> None:
        """Start new chains in these lanes of a running run, but for those that have ended."""
        with self.engine.begin() as connection:
            lanes = ledger.reseed(connection, run, numbers)
        for lane in lanes:
            self.seed(run, lane)

    def revive(self, stalled: ledger.StalledLane) -> bool:
        """Begin a new chain in a lane that stands; False if it has moved or ended since it was seen to."""
        with self.engine.begin() as connection:
            lane = ledger.revive(connection, stalled)
        if lane is not None:
            self.seed(stalled.run, lane)
        return lane is not None

    def finish(self, run: RunId) -> None:
        """End the run if all its lanes have ended."""
        with self.engine.begin() as connection:
            state = ledger.finish(connection, run)
            found = ledger.read_run(connection, run) if state else None
        if found is not None:
            logger.info("run ended: run=%s state=%s pages=%d", run, found.state, found.pages)
            self.live.forget(run, len(found.lanes))

    def _go_on(self, message: PageMessage, done: Committed) -> None:
        """Send the page after a committed one, if there is one, and move the live cursor."""
        sent = message.page
        if done.run_goes_on:
            following = replace(message, page=message.page + 1)
            self.send(following, done.delay_ms / 1000)
            sent = following.page
        self.live.advance(message, done.result.cursor, sent=sent)
        if done.next_lane is not None:
            self.reseed(message.run, [done.next_lane])  # if this process dies before, the watchdog does it
        elif done.lane_done:
            self.finish(message.run)

    def _take_over(self, message: PageMessage, lane: Lane) -> None:
        """The page is committed. If its successor was not sent, the process that should have is gone: send it.

        A duplicate that comes while that process is about to send gives it time, and then takes the right to send by
        the same compare-and-set, so that of any number of duplicates one sends.
        """
        if lane.state != "running":
            self.finish(message.run)
            return
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline:
            found = self.live.read(message.run, message.lane)
            if found is not None and (found.generation > message.generation or found.sent > message.page):
                return
            time.sleep(_LOOK_SECONDS)
        if lane.cursor is not None:
            self.live.advance(message, lane.cursor, sent=message.page)
        following = replace(message, page=message.page + 1)
        if self.live.claim(following):
            logger.warning("sending a page that was committed and not followed: %s", following)
            self.send(following, 0.0)
