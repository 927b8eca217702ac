"""The gate: whether a page may start now, and how large it may be."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from backfill_tasks.engine import ledger
from backfill_tasks.engine.admission.pressure import Pressure
from backfill_tasks.engine.contract import Backfill, PageContext
from backfill_tasks.engine.model import RunId
from backfill_tasks.options import Pace

#: How far waiting jobs are counted for the reason that an operator reads: some 10 ms with an index.
_MOST_COUNTED = 10_000


@dataclass(frozen=True)
class Admitted:
    """The page may start, with at most `limit` items (1 or more)."""

    limit: int
    context: PageContext


@dataclass(frozen=True)
class Denied:
    """The page may not start now, and why.

    `wait`: ask again later. `budget`: the run's budget is used up. `inactive`: the run is no longer running. `kind`
    names the cause in one or two constant words; `reason` includes the measured values.
    """

    why: Literal["wait", "budget", "inactive"]
    reason: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Gate:
    """Decides on admission. Times are in milliseconds."""

    pressure: Pressure
    lock_ms: int
    statement_ms: int

    def ask(
        self,
        connection: Connection,
        run: RunId,
        fence: ledger.Fence,
        backfill: Backfill,
        *,
        size: int,
        ended: bool = False,
    ) -> Admitted | Denied:
        """Ask for admission of the fence's lane, whose next page may have `size` items, in the page's transaction.

        A page whose size depends on the other pages' work waits for its turn and keeps it until its transaction ends,
        so no bound is exceeded, however many lanes, workers and runs there are. The same applies to a page that an
        indicator limits, and to a page of a single batch. `ended`: the run need not be running, because the page isn't
        its next one.
        """
        pace, options = fence.parameters.pace, backfill.with_defaults(fence.parameters.options)
        verdict = self.pressure.ask(connection, backfill.indicators(pace))
        if verdict.wait is not None:
            return Denied("wait", verdict.wait.reason, verdict.wait.indicator)
        size = min(size, verdict.limit or size)
        bounded = bool(backfill.jobs) and pace.bounds_jobs
        if not (bounded or verdict.limit or fence.single_batch or backfill.needs_ordinals(options)):
            return Admitted(size, PageContext(options, fence.started_at))
        tally = ledger.take_turn(
            connection, backfill.name, run, backfill.jobs, lock_ms=self.lock_ms, patience_ms=self.statement_ms
        )
        if tally.state != "running" and not ended:
            return Denied("inactive")
        context = PageContext(options, fence.started_at, tally.ordinal, pace.spacing_ms, tally.due_at)
        return _bounded(connection, context, pace, backfill, tally, size) if bounded else Admitted(size, context)


def _bounded(
    connection: Connection, context: PageContext, pace: Pace, backfill: Backfill, tally: ledger.Tally, size: int
) -> Admitted | Denied:
    """Admit as many items as the run's bounds on jobs leave room for; an item makes at most one job."""
    if pace.max_jobs is not None:
        size = min(size, pace.max_jobs - tally.jobs)
        if size < 1:
            return Denied("budget", f"its budget of {pace.max_jobs:,} jobs is used up")
    if pace.max_pending is not None:
        size = min(size, pace.max_pending - backfill.pending(connection, pace.max_pending, context))
        if size < 1:
            waiting = backfill.pending(connection, _MOST_COUNTED, context)
            shown = f"{waiting:,}" if waiting < _MOST_COUNTED else f"{waiting:,} or more"
            full = f"no room in the host's queue: {shown} jobs wait, ours and due live ones"
            return Denied("wait", full, "max pending")
    return Admitted(size, context)
