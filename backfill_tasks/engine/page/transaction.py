"""One page in one short transaction: the fence, admission, the backfill's own statement, the ledger's row."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import batch, ledger, redis_client, schema
from backfill_tasks.engine.admission.gate import Admitted, Denied, Gate
from backfill_tasks.engine.admission.page_size import next_size
from backfill_tasks.engine.contract import Backfill, ItemsFailed, RowChanged
from backfill_tasks.engine.cursors import LiveCursors
from backfill_tasks.engine.database import sqlstate
from backfill_tasks.engine.model import PageMessage, PageResult
from backfill_tasks.engine.page import statement
from backfill_tasks.engine.page.bisection import is_of_an_item
from backfill_tasks.engine.page.fence import refusal
from backfill_tasks.engine.page.results import Committed, PutOff, Refused
from backfill_tasks.errors import LedgerError, PluginError

#: A page that has started this often without finishing is a poison message: it ended its worker each time. It is not
#: retried.
MOST_ATTEMPTS = 5

_INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True)
class Pages:
    """Does pages. Times are in milliseconds; `wait_seconds` is how long a denied page waits before it asks again."""

    engine: Engine
    live: LiveCursors
    backfills: Mapping[str, Backfill]
    gate: Gate
    lock_ms: int
    statement_ms: int
    wait_seconds: float

    def do(self, message: PageMessage) -> Committed | Refused | PutOff:
        """Do a page and commit it, exactly once, however many processes call this however often.

        Items that fail on their own are quarantined, and the others are committed. A page that isn't admitted is put
        off. So is a page for which this role lacks a right, or from which row-level security hides rows: it continues
        without a command once a DBA has fixed that.

        The transaction locks the lane's row. Redis is called once under this lock, before the page's statement, with a
        bounded wait: see `LiveCursors.begin`.

        Raises:
            DBAPIError: a transient error, or one that no smaller page avoids; nothing was changed.
            RowChanged: the host keeps changing the page's rows; nothing was changed.
            RedisError: Redis can't be used; nothing was changed.
        """
        try:
            return self._with_all_rights(message)
        except LedgerError as error:  # the ledger can be neither read nor told why the page waits
            return PutOff(message, self.wait_seconds, str(error))

    def _with_all_rights(self, message: PageMessage) -> Committed | Refused | PutOff:
        try:
            return self._whole_or_in_parts(message)
        except DBAPIError as error:
            put_off = self._put_off_for_rights(message) if sqlstate(error) == _INSUFFICIENT_PRIVILEGE else None
            if put_off is None:
                raise
            return put_off

    def _whole_or_in_parts(self, message: PageMessage) -> Committed | Refused | PutOff:
        try:
            return self._attempt(message, in_parts=False)
        except (RowChanged, ItemsFailed):
            return self._attempt(message, in_parts=True)
        except DBAPIError as error:
            if not is_of_an_item(error):
                raise
            return self._attempt(message, in_parts=True)

    def _attempt(self, message: PageMessage, *, in_parts: bool) -> Committed | Refused | PutOff:
        """Do the transaction, with the calls to Redis that don't need the lane's row lock before and after it."""
        if not in_parts:
            # Wait for an unreachable Redis here, before the lock is taken. This also keeps every attempt from leaving a
            # call behind that counts once Redis is back.
            self.live.wait_for_answer()
        try:
            done = self._transaction(message, in_parts=in_parts)
        except redis_client.RedisError:  # the start may have been counted, but the worker survived
            self.live.reset_attempts(message)
            raise
        if in_parts and (isinstance(done, PutOff) or (isinstance(done, Refused) and done.why == "inactive")):
            self.live.reset_attempts(message)  # its first attempt was counted; the worker survived
        return done

    def _transaction(self, message: PageMessage, *, in_parts: bool) -> Committed | Refused | PutOff:
        with self.engine.begin() as connection:
            fence = self._fence(connection, message)
            if fence is None:
                schema.version(connection)  # raises LedgerError if row-level security hides the ledger's rows
                return Refused("unknown")
            refused = refusal(fence, message)
            if refused is not None:
                return Refused(refused, fence.lane)
            try:
                backfill = self.backfills[fence.parameters.backfill]
            except PluginError as error:  # a worker that hasn't been upgraded; another one may take the page next
                why = f"a worker can't do this page: {error}; install the same packages for all workers"
                return self._deny(connection, message, fence, Denied("wait", why, "old worker"))
            size = min(fence.lane.size or fence.parameters.limit, fence.parameters.limit)
            answer = self.gate.ask(connection, message.run, fence, backfill, size=size)
            if isinstance(answer, Denied):
                return self._deny(connection, message, fence, answer)
            if not in_parts and self.live.begin(message) > MOST_ATTEMPTS:
                return Refused("poison", fence.lane)
            return self._do(connection, message, fence, backfill, answer, size=size, in_parts=in_parts)

    def _fence(self, connection: Connection, message: PageMessage) -> ledger.Fence | None:
        return ledger.fence(connection, message, lock_ms=self.lock_ms, statement_ms=self.statement_ms)

    def _do(
        self,
        connection: Connection,
        message: PageMessage,
        fence: ledger.Fence,
        backfill: Backfill,
        admitted: Admitted,
        *,
        size: int,
        in_parts: bool,
    ) -> Committed:
        """Do an admitted page and record it; the caller's transaction commits both."""
        parameters, began = fence.parameters, time.monotonic()
        window = statement.window(fence.lane.left, items=admitted.limit, size=size, limit=parameters.limit)
        result, quarantined = statement.run(connection, backfill, window, admitted.context, in_parts=in_parts)
        took = time.monotonic() - began
        following = next_size(
            size,
            limit=parameters.limit,
            used=admitted.limit,
            seconds=took,
            target_ms=parameters.pace.target_page_ms,
        )
        # A lane at the limit stores no size of its own, so that a raised limit applies from the next page on.
        size_kept = following if following < parameters.limit else None
        next_lane = ledger.record(connection, message, fence, result, quarantined, size=size_kept, seconds=took)
        return _committed(message, fence, result, len(quarantined), next_lane)

    def _put_off_for_rights(self, message: PageMessage) -> Refused | PutOff | None:
        """Put off a refused page and record what this role lacks; None if it lacks nothing.

        Raises:
            LedgerError: the ledger is missing, has another version, or this role lacks a right to it.
        """
        self.live.reset_attempts(message)
        with self.engine.begin() as connection:
            schema.require(connection)
            schema.require_rights(connection)
            fence = self._fence(connection, message)
            backfill = self.backfills.get(fence.parameters.backfill) if fence else None
            if fence is None or backfill is None or refusal(fence, message) is not None:
                return None
            for lack in backfill.missing(connection, apply=True):
                why = Denied("wait", f"{lack.what}: {lack.fix}", "rights")
                return self._deny(connection, message, fence, why)
        return None

    def _deny(
        self, connection: Connection, message: PageMessage, fence: ledger.Fence, denied: Denied
    ) -> Refused | PutOff:
        match denied.why:
            case "wait":
                again = ledger.put_off(connection, message, self.wait_seconds, denied.kind, denied.reason)
                return PutOff(again, self.wait_seconds, denied.reason)
            case "budget":
                ledger.move_run(connection, message.run, "paused", by="page", reason=denied.reason)
        return Refused("inactive", fence.lane)


def _committed(
    message: PageMessage, fence: ledger.Fence, result: PageResult, quarantined: int, next_lane: int | None
) -> Committed:
    lane_done = result.cursor == fence.lane.bounds.upper
    return Committed(
        result=result,
        quarantined=quarantined,
        lane_done=lane_done,
        run_goes_on=not (lane_done or (fence.single_batch and batch.ends_with(message.page, result.counts))),
        delay_ms=fence.parameters.page_delay_ms,
        next_lane=next_lane,
    )
