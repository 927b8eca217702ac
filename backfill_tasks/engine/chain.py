"""The chain: do a page, send the next, move the live cursor and note in the same step that the next was sent.

A process may die between any two of these steps, and any message may come twice. What has been committed is never done
again (the fence), and whoever finds a committed page whose successor was not sent sends it, once.

A page that fails fails here: the chain decides from the error whether the page is tried again, waits for Redis, or
stops its lane, and the ledger has the reason. Items that fail on their own don't come this far: the page's transaction
quarantines them.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import ledger
from backfill_tasks.engine.contract import RowChanged
from backfill_tasks.engine.cursors import LiveCursors
from backfill_tasks.engine.database import is_outage, is_transient, reason
from backfill_tasks.engine.model import Lane, PageMessage, RunId
from backfill_tasks.engine.page.results import Committed, PutOff, Refusal
from backfill_tasks.engine.page.transaction import MOST_ATTEMPTS, Pages
from backfill_tasks.escaping import shown

logger = logging.getLogger(__name__)

#: How long a duplicate gives the process that committed the page to send the next one, in seconds. Far longer than it
#: takes (some milliseconds), far shorter than an operator notices.
_GRACE_SECONDS = 3.0
_LOOK_SECONDS = 0.05

#: The longest wait before a page is tried again, in seconds; the waits double up to it: 1, 2, 4 … 60.
_LONGEST_WAIT = 60

#: The longest while the database is away: a lane moves again within this time of its return.
_LONGEST_OUTAGE_WAIT = 8

#: How long a page waits for a Redis that doesn't answer or refuses to write, in seconds.
_REDIS_WAIT = 5

Send = Callable[[PageMessage, float], None]
"""Puts a page's message on its way, to be taken up after so many seconds; raises SendError where it can't."""

Outcome = Literal["committed", "put off", "retry", "stopped"] | Refusal


class SendError(Exception):
    """A page's message couldn't be sent: the broker, which is Redis, is away or refuses. It passes."""


@dataclass(frozen=True)
class Tries:
    """How often a page's message has been tried again before; `outages`, how many of its `retries` were an outage's."""

    retries: int = 0
    outages: int = 0


@dataclass(frozen=True)
class Step:
    """What became of a page's message.

    Attributes:
        outcome: `retry` and `stopped` are failures of the page.
        page: what a committed page did.
        reason: why the page wasn't done.
        delay: in how many seconds the caller sends this very message again; None: it doesn't. A `retry` counts as one
            more of its retries, a page that was `put off` does not.
        outages: of a `retry`, how many of its retries were an outage's, this one included.
    """

    outcome: Outcome
    page: Committed | None = None
    reason: str | None = None
    delay: int | None = None
    outages: int = 0


@dataclass(frozen=True)
class Chain:
    """Walks lanes, one message at a time. A page is tried again `most_retries` times before its lane stops."""

    engine: Engine
    live: LiveCursors
    pages: Pages
    send: Send
    most_retries: int

    def step(self, message: PageMessage, tries: Tries = Tries()) -> Step:
        """Handle one message: do its page if it is the lane's next, and send the one after it.

        A failure becomes a step, too, and the ledger keeps its reason:

        - After a passing database error, or if the host keeps changing the page's rows, the page is tried again with
          growing waits; after `most_retries` tries its lane stops. An outage of the database uses up no try.
        - While Redis can't be used, the page waits, however long it takes, and no try is used up. A page that is
          committed already is done once, and its message, when it comes again, sends the next.
        - After any other database error the lane stops.

        Whatever can't be sent or noted now, the watchdog makes up for: it seeds a lane that stands.
        """
        try:
            return self._handle(message, tries)
        except (RedisError, SendError) as error:
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
        """End a lane that can't go on, and say why; the others go on."""
        with self.engine.begin() as connection:
            stopped = ledger.fail_lane(connection, message, reason)
        if not stopped:
            return Step("superseded")
        logger.error("lane stopped: %s: %s", message, reason)
        self.finish(message.run)
        return Step("stopped", reason=reason)

    def _stop_or_retry(self, message: PageMessage, tries: Tries, why: str) -> Step:
        """Stop a lane; if the ledger can't be written to, the lane can't stop, and its page is tried again."""
        try:
            return self.stop(message, why)
        except DBAPIError as error:
            return self._retry(message, tries, reason(error), outage=True)

    def _retry(self, message: PageMessage, tries: Tries, why: str, *, outage: bool = False) -> Step:
        """Let a page be tried again after a wait, or stop its lane after enough tries.

        An outage of the database uses up no try: the run can't know when it ends, and it needs no operator.
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
        """Put a page off because Redis doesn't answer or refuses to write: that passes."""
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
