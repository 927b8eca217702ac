"""Size a page to the host's drain: `--max-pending auto`.

Jobs are added just before a call of the host, when the live jobs that it will take are known. So live jobs go first,
and ours get what the call has left. How much that is, `bound.py` says. While our own scorers take due jobs, too, jobs
are added between calls as well.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from backfill_tasks.engine import ledger
from backfill_tasks.engine.admission.answers import Denied
from backfill_tasks.engine.admission.bound import STARVED_SECONDS, Bound, Measurement, observe
from backfill_tasks.engine.contract import Backfill, PageContext, Queue

#: The kind of a hold for lack of room, whichever bound leaves none.
FULL = "max pending"

_HOUR = 3_600


@dataclass(frozen=True)
class Sizing:
    """Sizes the pages of one backfill. `min_share`: the share of the drain that is guaranteed, from 0 to 1."""

    backfill: Backfill
    queue: Queue
    min_share: float

    def room(
        self, connection: Connection, context: PageContext, size: int, *, timed: bool, why_not: str | None
    ) -> int | Denied:
        """Return how many items a page may have, up to `size`; each makes at most one job.

        The ledger keeps what the measurement shows. The page must have its turn, which makes the bound exact for all
        lanes, workers and runs. A call that left more of our jobs in the queue than fit is corrected: they are set back
        behind the live jobs.

        Args:
            connection: in the page's transaction.
            context: the state of the page's run.
            size: the most items of the page.
            timed: whether the page's jobs come due at once, so that it has to wait for the moment before the host's
                next call.
            why_not: why live jobs hold the page back, so that only the guaranteed share may pass; None: they don't.
        """
        now, found = ledger.read_bound(connection, self.backfill.name)
        bound = found or Bound(self.queue.usual)
        opens = bound.opens(now, self.queue.lead_seconds)
        if timed and opens > now and not bound.shared:
            soon = f"jobs are added just before the host's next call: {words(bound)}"
            return Denied("wait", why_not or soon, FULL, opens - now)
        until = bound.calls.following(now)
        measured = self.queue.measure(connection, since=bound.since(now), until=until)
        if opens <= now:
            bound = observe(bound, measured, min_share=self.min_share, usual_seconds=self.queue.usual.seconds)
        free = bound.room(measured) if timed else bound.offer - self.backfill.pending(connection, bound.offer, context)
        free = 0 if why_not else free
        admitted = min(size, max(free, bound.owed))
        if admitted > max(0, free):
            bound = bound.pay(admitted)
        elif timed and bound.room(measured) < 0 and measured.ours:
            self._set_back(connection, bound, measured, until)
        ledger.write_bound(connection, self.backfill.name, bound)
        if admitted > 0:
            return admitted
        # The moment before the call isn't missed: what the call before took is measured then.
        again = opens - now if timed and opens > now else None
        return Denied("wait", self._full(bound, measured, now, why_not), FULL, again)

    def _set_back(self, connection: Connection, bound: Bound, measured: Measurement, until: float) -> None:
        """Set back those of our jobs that are due beyond the bound, to the call after the next."""
        jobs = min(-bound.room(measured), measured.ours)
        due = until + bound.calls.seconds - self.queue.lead_seconds
        self.queue.set_back(connection, jobs=jobs, until=until, due=due)

    def _full(self, bound: Bound, measured: Measurement, now: float, why_not: str | None) -> str:
        why = starved(bound, now, min_share=self.min_share)
        if why_not:
            return f"{why_not}; {why or summary(bound, now, min_share=self.min_share)}"
        full = f"no room at the host's next call: {measured.live:,} live jobs and {measured.ours:,} of ours are due"
        return f"{full}; {why or words(bound)}"


def starved(bound: Bound, now: float, *, min_share: float) -> str | None:
    """Return in words how long live jobs have left no room; None for less than an hour."""
    if bound.starved_since is None or now - bound.starved_since < _HOUR:
        return None
    seconds = now - bound.starved_since
    lasts = f"starved for {seconds / _HOUR:.0f} h: live jobs leave no room"
    if seconds < STARVED_SECONDS or not min_share:
        return lasts
    share = f"only the guaranteed {100 * min_share:g} % of the drain goes through"
    return f"{lasts}, and {share}. `backfill drain` has the host's runner called more often"


def words(bound: Bound) -> str:
    """Return the bound in force and its reason in words."""
    return f"at most {bound.offer:,} jobs are due at it; {_drain(bound)}"


def summary(bound: Bound, now: float, *, min_share: float) -> str:
    """Return the same for an operator who sees no other reason."""
    why = starved(bound, now, min_share=min_share) or _drain(bound)
    return f"at most {bound.offer:,} jobs are due at the host's next call: {why}"


def _drain(bound: Bound) -> str:
    if not bound.judged:
        return "the host's drain has not been measured yet"
    every = f"{bound.calls.seconds:g} s"
    takes = f"the host takes {bound.capacity:,.0f} every {every}, {bound.live_per_call:,.0f} of them live"
    return f"{takes}, and `backfill work` takes more" if bound.shared else takes
