"""The gate: whether a page may start now, and how large it may be."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from backfill_tasks.engine import ledger
from backfill_tasks.engine.admission.answers import Denied
from backfill_tasks.engine.admission.indicators import Indicator, Reading
from backfill_tasks.engine.admission.pressure import Pressure, Verdict
from backfill_tasks.engine.admission.sizing import FULL, Sizing
from backfill_tasks.engine.contract import Backfill, PageContext
from backfill_tasks.engine.model import RunId
from backfill_tasks.options import Pace, Values

#: How far waiting jobs are counted for the reason that an operator reads: some 10 ms with an index.
_MOST_COUNTED = 10_000

#: The bound of "auto" for a backfill that can't measure the host's queue: what the default was before, right for 20
#: jobs a minute.
_CONSTANT = 12


@dataclass(frozen=True)
class Admitted:
    """The page may start, with at most `limit` items (1 or more)."""

    limit: int
    context: PageContext


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
        own = backfill.indicators(pace)
        verdict = self.pressure.ask(connection, own)
        sizing = _sizing(backfill, pace, options)
        why_not = _of_live_jobs(verdict, own) if sizing and sizing.min_share else None
        if verdict.wait is not None and why_not is None:
            return Denied("wait", verdict.wait.reason, verdict.wait.indicator)
        size = min(size, verdict.limit or size)
        bounded = bool(backfill.jobs) and pace.bounds_jobs
        if not (bounded or verdict.limit or fence.single_batch or backfill.needs_ordinals(options)):
            return Admitted(size, PageContext(options, fence.started_at))
        return self._in_turn(connection, run, fence, backfill, sizing, size=size, ended=ended, why_not=why_not)

    def _in_turn(
        self,
        connection: Connection,
        run: RunId,
        fence: ledger.Fence,
        backfill: Backfill,
        sizing: Sizing | None,
        *,
        size: int,
        ended: bool,
        why_not: Reading | None,
    ) -> Admitted | Denied:
        """Ask for admission of a page that depends on others. `why_not`: why only the guaranteed share may pass."""
        pace, options = fence.parameters.pace, backfill.with_defaults(fence.parameters.options)
        tally = ledger.take_turn(
            connection, backfill.name, run, backfill.jobs, lock_ms=self.lock_ms, patience_ms=self.statement_ms
        )
        if tally.state != "running" and not ended:
            return Denied("inactive")
        context = PageContext(options, fence.started_at, tally.ordinal, pace.spacing_ms, tally.due_at)
        if not (backfill.jobs and pace.bounds_jobs):
            return Admitted(size, context)
        left = size if pace.max_jobs is None else min(size, pace.max_jobs - tally.jobs)
        if left < 1:
            return Denied("budget", f"its budget of {pace.max_jobs:,} jobs is used up")
        if sizing is None:
            return _bounded(connection, context, pace, backfill, left)
        timed = not (ended or context.spacing_ms or backfill.needs_ordinals(options))
        return _sized(connection, context, sizing, left, timed=timed, why_not=why_not)


def _sizing(backfill: Backfill, pace: Pace, options: Values) -> Sizing | None:
    """Return what sizes the backfill's pages to the host's drain; None if the bound is a constant, or doesn't apply."""
    if pace.max_pending != "auto" or backfill.queue is None or not backfill.fills_queue(options):
        return None
    return Sizing(backfill, backfill.queue, pace.min_share / 100)


def _of_live_jobs(verdict: Verdict, own: Sequence[Indicator]) -> Reading | None:
    """Return the reading that denies a page if only live jobs are why: then the guaranteed share may pass nevertheless.

    An indicator that can't be measured says nothing about live jobs, so nothing passes.
    """
    names = {each.name for each in own}
    if any(each.measured is None or each.indicator not in names for each in verdict.waits):
        return None
    return verdict.wait


def _sized(
    connection: Connection, context: PageContext, sizing: Sizing, size: int, *, timed: bool, why_not: Reading | None
) -> Admitted | Denied:
    """Admit as many items as the host's next call takes beside the live jobs."""
    room = sizing.room(connection, context, size, timed=timed, why_not=why_not.reason if why_not else None)
    if isinstance(room, Denied):
        return replace(room, kind=why_not.indicator) if why_not else room
    return Admitted(room, replace(context, at_once=timed))


def _bounded(
    connection: Connection, context: PageContext, pace: Pace, backfill: Backfill, size: int
) -> Admitted | Denied:
    """Admit as many items as a constant bound on waiting jobs leaves room for; an item makes at most one job."""
    most = _CONSTANT if pace.max_pending == "auto" else pace.max_pending
    if most is not None and backfill.fills_queue(context.options):
        size = min(size, most - backfill.pending(connection, most, context))
        if size < 1:
            waiting = backfill.pending(connection, _MOST_COUNTED, context)
            shown = f"{waiting:,}" if waiting < _MOST_COUNTED else f"{waiting:,} or more"
            full = f"no room in the host's queue: {shown} jobs wait, ours and due live ones"
            return Denied("wait", full, FULL)
    return Admitted(size, context)
