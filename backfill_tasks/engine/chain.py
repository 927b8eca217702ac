"""The chain: do a page, send the next, move the live cursor and note that the next page was sent.

A process may die between any two of these steps, and any message may be delivered twice. The fence keeps a committed
page from being done again. A process that finds a committed page without a sent successor sends it, once.

Failures of a page are handled here: the chain decides from the error whether the page is retried, waits for Redis, or
stops its lane, and the ledger records the reason. Items that fail on their own don't get this far: the page's
transaction quarantines them.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import ledger, redis_client
from backfill_tasks.engine.contract import RowChanged
from backfill_tasks.engine.cursors import LiveCursors
from backfill_tasks.engine.database import is_outage, is_transient, reason
from backfill_tasks.engine.model import Lane, PageMessage, RunId
from backfill_tasks.engine.page.results import Committed, PutOff, Refusal
from backfill_tasks.engine.page.transaction import MOST_ATTEMPTS, Pages
from backfill_tasks.escaping import shown

logger = logging.getLogger(__name__)

#: How long a duplicate lets the process that committed the page send the next one, in seconds: far longer than sending
#: takes (milliseconds), far shorter than an operator notices.
_GRACE_SECONDS = 3.0
_LOOK_SECONDS = 0.05

#: The longest backoff before a page is retried, in seconds; the waits double: 1, 2, 4 … 60.
_LONGEST_WAIT = 60

#: The longest backoff during a database outage, in seconds: the lane moves again within this time after the outage.
_LONGEST_OUTAGE_WAIT = 8

#: How long a page waits if Redis doesn't answer or refuses to write, in seconds.
_REDIS_WAIT = 5

Send = Callable[[PageMessage, float], None]
"""A function that sends a page's message, to be delivered after a delay in seconds. Raises SendError if it can't."""

Outcome = Literal["committed", "put off", "retry", "stopped"] | Refusal


class SendError(Exception):
    """A page's message couldn't be sent because the broker (Redis) is unreachable or refuses it.

    The fault is transient.
    """


@dataclass(frozen=True)
class Tries:
    """How often a page's message has been retried; `outages` is how many of the `retries` were due to an outage."""

    retries: int = 0
    outages: int = 0


@dataclass(frozen=True)
class Step:
    """The result of handling a page's message.

    Attributes:
        outcome: `retry` and `stopped` are failures of the page.
        page: what a committed page did.
        reason: why the page wasn't done.
        delay: the caller resends this message after so many seconds; None: it doesn't. A `retry` adds one to the
            message's retries, a page that was `put off` does not.
        outages: for a `retry`, the number of its retries due to an outage, this one included.
    """

    outcome: Outcome
    page: Committed | None = None
    reason: str | None = None
    delay: int | None = None
    outages: int = 0


@dataclass(frozen=True)
class Chain:
    """Walks lanes, one message at a time. A page is retried `most_retries` times before its lane stops."""

    engine: Engine
    live: LiveCursors
    pages: Pages
    send: Send
    most_retries: int

    def step(self, message: PageMessage, tries: Tries = Tries()) -> Step:
        """Handle one message: do its page if it is the lane's next, and send the following one.

        A failure is returned as a step, too, and the ledger records its reason:

        - After a transient database error, or if the host keeps changing the page's rows, the page is retried with
          exponential backoff; after `most_retries` retries its lane stops. A database outage uses up no retry.
        - While Redis can't be used, the page waits, however long it takes, and uses up no retry. If the page is already
          committed, its redelivered message sends the next page.
        - After any other database error the lane stops.

        If a message can't be sent or a reason can't be recorded, the watchdog makes up for it: it reseeds a stalled
        lane.
        """
        try:
            return self._handle(message, tries)
        except (redis_client.RedisError, SendError) as error:
            return self._wait_for_redis(message, error)

    def _handle(self, message: PageMessage, tries: Tries) -> Step:
        try:
            return self._walk(message)
        except RowChanged:
            return self._retry(message, tries, "the host keeps changing the page's rows")
        except DBAPIError as error:
            if is_transient(error):
                return self._retry(message, tries, reason(error), outage=is_outage(error))
            return self._stop_or_retry(message, tries, f"page {message.page}: {reason(error)}")

    def _walk(self, message: PageMessage) -> Step:
        done = self.pages.do(message)
        if isinstance(done, Committed):
            self._go_on(message, done)
            return Step("committed", done)
        if isinstance(done, PutOff):
            self.send(done.again, done.seconds)
            return Step("put off", reason=done.reason)
        if done.why == "poison":
            self.live.reset_attempts(message)  # resuming the lane must retry this page
            return self.stop(
                message, f"page {message.page} ended its worker {MOST_ATTEMPTS} times: see the workers' logs"
            )
        if done.why == "duplicate" and done.lane is not None and done.lane.page == message.page:
            self._take_over(message, done.lane)
        return Step(done.why)

    def stop(self, message: PageMessage, reason: str) -> Step:
        """Stop a lane that can't continue and record why; the run's other lanes continue."""
        with self.engine.begin() as connection:
            stopped = ledger.fail_lane(connection, message, reason)
        if not stopped:
            return Step("superseded")
        logger.error("lane stopped: %s: %s", message, reason)
        self.finish(message.run)
        return Step("stopped", reason=reason)

    def _stop_or_retry(self, message: PageMessage, tries: Tries, why: str) -> Step:
        """Stop a lane; if the ledger can't be written to, retry the page instead."""
        try:
            return self.stop(message, why)
        except DBAPIError as error:
            return self._retry(message, tries, reason(error), outage=True)

    def _retry(self, message: PageMessage, tries: Tries, why: str, *, outage: bool = False) -> Step:
        """Retry a page after a backoff, or stop its lane once the retries are used up.

        A database outage uses up no retry: its end can't be predicted, and it must not need an operator.
        """
        attempts = tries.retries - tries.outages
        if attempts >= self.most_retries and not outage:
            given_up = f"given up after {self.most_retries} retries"
            step = self._stop_or_retry(message, tries, f"page {message.page}: {given_up}: {why}")
            return replace(step, reason=f"{why}: {given_up}") if step.outcome == "stopped" else step
        longest, before = (_LONGEST_OUTAGE_WAIT, tries.outages) if outage else (_LONGEST_WAIT, attempts)
        wait = min(longest, 2 ** min(before, 10))
        logger.warning("page put off for %d s: %s: %s", wait, message, why)
        self.live.reset_attempts(message)
        try:
            self._hold_back(message, wait, f"waits for a retry: {why}")
        except DBAPIError as error:
            logger.warning("the ledger doesn't know that the page waits: %s: %s", message, reason(error))
        return Step("retry", reason=why, delay=wait, outages=tries.outages + outage)

    def _wait_for_redis(self, message: PageMessage, error: Exception) -> Step:
        """Postpone a page because Redis doesn't answer or refuses to write; the fault is transient."""
        why = f"Redis can't be used: {shown(str(error)) or type(error).__name__}"
        logger.warning("page put off for %d s: %s: %s", _REDIS_WAIT, message, why)
        try:
            self._hold_back(message, _REDIS_WAIT, f"waits: {why}")
        except DBAPIError as trouble:
            logger.warning("the ledger can't be written to: %s: %s", message, reason(trouble))
        return Step("put off", reason=why, delay=_REDIS_WAIT)

    def _hold_back(self, message: PageMessage, seconds: int, what: str) -> None:
        with self.engine.begin() as connection:
            ledger.hold_back(connection, message, seconds, f"page {message.page} {what}")

    def seed(self, run: RunId, lane: Lane) -> None:
        """Start a lane's chain at the position recorded in the ledger."""
        first = PageMessage(run, lane.number, lane.page + 1, lane.generation)
        self.live.place(run, lane)
        self.send(first, 0.0)

    def reseed(self, run: RunId, numbers: list[int]) -> None:
        """Start new chains in these lanes of a running run; skip lanes that have ended."""
        with self.engine.begin() as connection:
            lanes = ledger.reseed(connection, run, numbers)
        for lane in lanes:
            self.seed(run, lane)

    def revive(self, stalled: ledger.StalledLane) -> bool:
        """Start a new chain in a stalled lane; return False if it has moved or ended in the meantime."""
        with self.engine.begin() as connection:
            lane = ledger.revive(connection, stalled)
        if lane is not None:
            self.seed(stalled.run, lane)
        return lane is not None

    def finish(self, run: RunId) -> None:
        """End the run if it has nothing left to walk."""
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
            self.reseed(message.run, [done.next_lane])  # if this process dies first, the watchdog reseeds the lane
        elif done.lane_done:
            self.finish(message.run)

    def _take_over(self, message: PageMessage, lane: Lane) -> None:
        """Send the successor of a committed page if the process that should have sent it is gone.

        A duplicate that arrives while that process is about to send waits for it first, and then claims the right to
        send by compare-and-set, so only one of any number of duplicates sends.
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
