"""Checks that the bounds on jobs in the host's queue leave room for a page."""

from collections.abc import Iterator

from sqlalchemy import Connection

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.cli.render.text import duration
from backfill_tasks.engine import ledger, schema
from backfill_tasks.engine.contract import Backfill

#: Jobs are counted up to this number.
_MOST = 10_000

#: The host isn't draining a queue whose oldest job has been due for this many seconds. A full queue alone is healthy.
_STALLED_SECONDS = 300.0


def room(context: CommandContext) -> Iterator[Finding]:
    """Check that a page of a new run, and of each running one, finds room in the host's queue."""
    full = False
    for backfill in context.parts.backfills.usable():
        if not backfill.jobs:
            continue
        with context.parts.engine.begin() as connection:
            if backfill.missing(connection, apply=True):  # `host` reports it
                return
            bounds = _bounds(context, connection, backfill)
            waiting, oldest = backfill.pending(connection, _MOST), backfill.oldest_due_seconds(connection)
        for tune, most in bounds.items():
            if waiting >= most:
                full = True
                yield _full(waiting, most, oldest, tune)
    if not full:
        yield Finding("fine", "the host's queue has room for a page's jobs")


def _bounds(context: CommandContext, connection: Connection, backfill: Backfill) -> dict[str, int]:
    """Return the bounds in force, keyed by the command that changes each."""
    found = {"backfill run --max-pending": context.settings.defaults["max_pending"]}
    if schema.version(connection) == schema.latest():
        for run in ledger.running(connection):
            parameters = context.parts.runs.read(run).parameters
            if parameters.backfill == backfill.name:
                found[f"backfill tune {run} --max-pending"] = parameters.pace.max_pending
    return {tune: most for tune, most in found.items() if most is not None}


def _full(waiting: int, most: int, oldest: float | None, tune: str) -> Finding:
    stalled = oldest is not None and oldest > _STALLED_SECONDS
    number = f"{waiting:,}{' or more' if waiting == _MOST else ''}"
    what = f"no room in the host's queue: {number} jobs wait, ours and due live ones, and the limit is {most:,}"
    why = f"The oldest has been due for {duration(oldest or 0)}: is the host's runner working? " if stalled else ""
    return Finding(
        "WRONG" if stalled else "look",
        f"no page would start: {what}" if stalled else what,
        f"{why}Pages wait until it drains. To raise the limit: {tune} {waiting + most}",
    )
