"""A worker's turn at the drain: while it has the lease, it decides every few seconds and makes the calls."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backfill_tasks.drain import ledger
from backfill_tasks.drain.answers import Answer
from backfill_tasks.drain.backoff import delay
from backfill_tasks.drain.caller import Caller
from backfill_tasks.drain.decision import Decision, Seen, decide, is_for_health, verdict
from backfill_tasks.drain.ledger import Drain
from backfill_tasks.drain.secret import read
from backfill_tasks.engine import schema
from backfill_tasks.engine.database import begin_read_only, is_outage, is_transient, reason, statement
from backfill_tasks.engine.ledger import note, who
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.settings import Settings
from backfill_tasks.wiring import Parts

logger = logging.getLogger(__name__)

#: The longest pause between two looks, in seconds: well below the lease, which each look renews.
_LOOK_SECONDS = 5.0

#: How soon to try again after a database error, in seconds, and for how long the end of a call is tried to be noted.
_RETRY_SECONDS, _PATIENCE_SECONDS = 1.0, 120.0

#: The time-out of a statement that measures the queue, in milliseconds.
_STATEMENT_MS = 5_000

_ENQUEUING = "SELECT DISTINCT backfill FROM backfill.run WHERE state = 'running'"


@dataclass
class Session:
    """Holds the lease while there is something to call for, and makes the calls, each in a thread of its own.

    At most `Orders.parallel` calls are in flight, over all workers: a call is noted before it is made. The calls of a
    killed worker count until they must have ended, because the host may still be at work on them.

    Weakness: if the ledger can't be written for two minutes after a call, its jobs are missing from the totals.

    Args:
        parts: the engine.
        generation: that of the lease, which this worker has taken.
        call: makes a call of a URL and returns its answer; it never raises.
        call_seconds: the longest that a call takes.
    """

    parts: Parts
    generation: int
    call: Callable[[str], Answer]
    call_seconds: float
    _own: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _woken: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Keep the lease while the drain calls, or has calls in flight.

        Raises:
            DBAPIError: the database failed, and no call is in flight.
        """
        while (pause := self._look()) is not None:
            self._woken.wait(pause)
            self._woken.clear()

    def _look(self) -> float | None:
        """Do what is due, and return in how many seconds to look again; None: the turn is over."""
        try:
            return self._step()
        except DBAPIError as error:
            # The lease may last; the calls in flight have an end to note under it.
            if not (is_transient(error) and self._own):
                raise
            logger.warning("the drain can't use the ledger: %s", reason(error))
            return _RETRY_SECONDS

    def _step(self) -> float | None:
        seen = self._measure()
        began = time.monotonic()
        with self.parts.engine.begin() as connection:
            if not ledger.renew(connection, self.generation):
                return None
            drain = ledger.read(connection, call_seconds=self.call_seconds)
            if drain is None:
                return None
            decision = seen if isinstance(seen, Decision) else decide(drain, seen, own=self._own)
            _apply(connection, drain, decision)
            call = ledger.open_call(connection, self.generation, every=decision.every) if decision.calls else None
        if call is not None:
            with self._lock:
                self._own += 1
            values = drain.orders.url, call, began
            threading.Thread(target=self._make, args=values, name="drain-call", daemon=True).start()
        if decision.state == "calling":
            until_next = decision.every if decision.calls else drain.until_next
            return min(max(until_next, 0.05), _LOOK_SECONDS)
        return _LOOK_SECONDS if self._own else None

    def _measure(self) -> Seen | Decision:
        """Return what the queue looks like, or a pause if it can't be read.

        Raises:
            DBAPIError: the database can't be used at all.
        """
        backfills = [each for each in self.parts.backfills.usable() if each.jobs]
        try:
            with self.parts.engine.begin() as connection:
                begin_read_only(connection, statement_ms=_STATEMENT_MS)
                found = [each for backfill in backfills if (each := backfill.backlog(connection)) is not None]
                running = set(connection.execute(statement(_ENQUEUING)).scalars())
        except DBAPIError as error:
            if is_outage(error):
                raise
            why = f"the host's queue can't be read: {reason(error)}. `backfill doctor` says what is missing"
            return Decision("paused", "unmeasured", why)
        return Seen.of(found, is_enqueuing=any(each.name in running for each in backfills))

    def _make(self, url: str, call: int, noted_at: float) -> None:
        """Make a call that was noted at this time of the monotonic clock, and note its end."""
        try:
            if time.monotonic() - noted_at > ledger.LEASE_SECONDS:
                answer = Answer("timed out", "the worker was frozen before the call, and didn't make it")
            else:
                answer = self.call(url)
            logger.info("the host's runner was called: %s: %s", answer.result, answer.shown)
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while not self._noted(call, answer) and time.monotonic() < deadline:
                time.sleep(_RETRY_SECONDS)
        finally:
            with self._lock:
                self._own -= 1
            self._woken.set()

    def _noted(self, call: int, answer: Answer) -> bool:
        """Note the end of a call, and what follows from it; return False if the database failed."""
        try:
            with self.parts.engine.begin() as connection:
                if not ledger.end_call(connection, call, self.generation, answer):
                    logger.warning("the call doesn't count: another worker has taken the drain's lease")
                    return True
                _follow(connection, answer)
        except DBAPIError as error:
            logger.warning("the end of a call can't be noted: %s", reason(error))
            return False
        return True


def look_after(parts: Parts, settings: Settings) -> None:
    """Take the drain's lease if the drain is on and the lease is free, and call for as long as there is a reason to.

    Raises:
        DBAPIError: the database failed.
    """
    with parts.engine.begin() as connection:
        generation = ledger.take(connection, who=who()) if schema.version(connection) >= ledger.VERSION else None
    if generation is None:
        return
    try:
        caller = Caller(read(settings), settings.cron_call_seconds, settings.cron_host)
    except ConfigurationError as error:
        _pause_without_secret(parts, generation, str(error))
    else:
        Session(parts, generation, caller.call, caller.seconds).run()
    finally:
        with parts.engine.begin() as connection:
            ledger.release(connection, generation)


def _pause_without_secret(parts: Parts, generation: int, why: str) -> None:
    """Say why this worker can't call. A pause for the host's health stays: another worker may have the secret."""
    with parts.engine.begin() as connection:
        drain = ledger.read(connection, call_seconds=0) if ledger.renew(connection, generation) else None
        if drain is None or drain.state == "paused":
            return
        logger.warning("the drain is paused: %s", why)
        ledger.move(connection, "paused", "no_secret", f"{why} ({who()})")


def _apply(connection: Connection, drain: Drain, decision: Decision) -> None:
    """Write a decision, if it changes anything."""
    if decision.state == "stopped":
        ledger.stop(connection, decision.kind, decision.reason or "", who=who())
        return
    if (decision.state, decision.kind, decision.reason) == (drain.state, drain.kind, drain.reason):
        return
    ledger.move(
        connection,
        decision.state,
        decision.kind,
        decision.reason,
        wait_seconds=decision.wait_seconds,
        judges_anew=decision.judges_anew,
    )
    before, after = is_for_health(drain.state, drain.kind), is_for_health(decision.state, decision.kind)
    if before != after:
        name, why = ("drain paused", decision.reason) if after else ("drain resumed", "the host is healthy again")
        note(connection, None, name, {"reason": why}, who=who())


def _follow(connection: Connection, answer: Answer) -> None:
    """Write what follows from a call's answer. The caller has locked the drain's row."""
    ended = verdict(answer)
    if answer.result == "worked":
        ledger.succeed(connection)
    elif ended is not None:
        ledger.stop(connection, ended.kind, ended.reason or "", who=who())
    else:
        ledger.fail(connection, lambda failures: delay(failures, answer.retry_after))
