"""Find and refuse runs that would walk the same items at the same time."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from backfill_tasks.engine import ledger
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.states import RunState
from backfill_tasks.errors import OverlapError
from backfill_tasks.options import Values


@dataclass(frozen=True)
class Overlap:
    """An unfinished run that would walk items of a new run, too. `what`: these items, in words."""

    run: RunId
    state: RunState
    what: str

    def __str__(self) -> str:
        return f"run {self.run} is {self.state} and walks the same ({self.what})"

    @property
    def way_out(self) -> str:
        """The commands that follow or continue the run, and that end it."""
        other = f"watch {self.run}` follows it" if self.state == "running" else f"resume {self.run}` continues it"
        return f"`backfill {other}, `backfill cancel {self.run}` ends it"


def overlaps(connection: Connection, backfill: Backfill, options: Values) -> list[Overlap]:
    """Return the unfinished runs of a backfill that a run with these options would overlap, newest first.

    They include paused and failed runs, which can be resumed at any time.
    """
    found = []
    for each in ledger.unfinished(connection, backfill.name):
        what = backfill.overlap(options, backfill.with_defaults(each.parameters))
        if what is not None:
            found.append(Overlap(each.run, each.state, f"{backfill.name}, {what}"))
    return found


def refuse(found: Sequence[Overlap]) -> None:
    """Raise if a new run would overlap others.

    Raises:
        OverlapError: names the newest of them, and what to do.
    """
    if not found:
        return
    newest = found[0]
    more = f", the newest of {len(found)} such runs" if len(found) > 1 else ""
    raise OverlapError(f"{newest}{more}: {newest.way_out}")
