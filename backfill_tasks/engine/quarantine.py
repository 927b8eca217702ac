"""Retry quarantined items, one by one. An item that succeeds counts for the run as if it had never failed."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import ledger, states
from backfill_tasks.engine.admission.gate import Denied, Gate
from backfill_tasks.engine.contract import Backfill, ItemsFailed, PageContext, RowChanged
from backfill_tasks.engine.database import is_transient, reason, whole_reason
from backfill_tasks.engine.model import Bounds, PageMessage, PageResult, Quarantined, RunId, Window
from backfill_tasks.engine.page.bisection import failed, is_of_an_item


@dataclass(frozen=True)
class Tried:
    """The result of retrying a quarantined item. `held`: it was not tried, for the given reason.

    `whole_reason` is the database's full error, which may repeat values of the row. It is never stored.
    """

    item: str
    outcome: Literal["went through", "failed again", "held"]
    reason: str = ""
    whole_reason: str = ""


@dataclass(frozen=True)
class Retrier:
    """Retries quarantined items. Times are in milliseconds."""

    engine: Engine
    backfills: Mapping[str, Backfill]
    gate: Gate
    lock_ms: int
    statement_ms: int

    def retry(self, run: RunId) -> Generator[Tried]:
        """Try every quarantined item of a run once, each in a transaction of its own.

        Safe to repeat, and to run while the run is in progress: an item leaves quarantine in the transaction that does
        it. Pressure, bounds on jobs, or a transient error postpone the retry as they postpone pages: it ends at the
        first item that is held. In any case an event records how many items succeeded.

        Raises:
            WrongStateError: the run is cancelled. If it is cancelled during the retry, the remaining items are not
                tried.
        """
        with self.engine.begin() as connection:
            state = ledger.lock_run(connection, run)
            if state is not None:
                states.require(run, state, "retry")
            waiting = ledger.quarantined(connection, run, most=None)
        gone = 0
        try:
            for each in waiting:
                tried = self._try_now(run, each)
                if tried is None:
                    continue
                gone += tried.outcome == "went through"
                yield tried
                if tried.outcome == "held":
                    return
        finally:
            if waiting:
                self._note(run, gone)

    def _note(self, run: RunId, gone: int) -> None:
        with self.engine.begin() as connection:
            left = ledger.count_quarantined(connection, run)
            ledger.note(connection, run, "retried", {"went through": gone, "left": left}, who=ledger.who())

    def _try_now(self, run: RunId, each: Quarantined) -> Tried | None:
        """Do the same as `_try`, but report a transient error as `held`: it says nothing about the item."""
        try:
            return self._try(run, each)
        except DBAPIError as error:
            if not is_transient(error):
                raise
            return Tried(each.item, "held", reason(error))

    def _try(self, run: RunId, each: Quarantined) -> Tried | None:
        """Try one item; return None if another process has it or has released it."""
        with self.engine.begin() as connection:
            place = ledger.lock_quarantined(connection, run, each.item)
            if place is None:
                return None
            message = PageMessage(run, place.lane, place.page, 0)
            fence = ledger.fence(connection, message, lock_ms=self.lock_ms, statement_ms=self.statement_ms)
            if fence is None:
                return None
            states.require(run, fence.run_state, "retry")
            backfill = self.backfills[fence.parameters.backfill]
            leave = self.gate.ask(connection, run, fence, backfill, size=1, ended=True)
            if isinstance(leave, Denied):
                return Tried(each.item, "held", leave.reason)
            bounds = Bounds(backfill.previous_key(connection, each.item), each.item)
            try:
                with connection.begin_nested():
                    result = _page_of_one(connection, backfill, bounds, leave.context)
            except (DBAPIError, RowChanged, ItemsFailed) as error:
                if isinstance(error, DBAPIError) and not is_of_an_item(error):
                    raise
                kept = failed(each.item, error)
                ledger.keep(connection, message, [kept])
                return Tried(each.item, "failed again", kept.error, _whole(kept, error))
            ledger.release(connection, run, each.item, place, fence.lane, result)
            return Tried(each.item, "went through")


def _whole(kept: Quarantined, error: DBAPIError | RowChanged | ItemsFailed) -> str:
    """Return the full error, which may repeat values of the row."""
    match error:
        case DBAPIError():
            return whole_reason(error)
        case ItemsFailed():
            return error.whole_reason
    return kept.error


def _page_of_one(connection: Connection, backfill: Backfill, bounds: Bounds, context: PageContext) -> PageResult:
    """Do the page of a range that contains one item, or none if it is gone."""
    result = backfill.page(connection, Window(bounds, limit=1, rows=1), context)
    if result.cursor != bounds.upper:  # the host has just inserted another item before it
        raise RowChanged
    return result
