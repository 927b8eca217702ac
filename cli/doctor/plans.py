"""Checks that pages read by index, by the plans of the statements that they send."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.engine.contract import Backfill, PageContext
from backfill_tasks.engine.database import begin_read_only, is_permanent, reason, sqlstate
from backfill_tasks.engine.model import Bounds, Window
from backfill_tasks.engine.page.statement import PAGE_ROWS
from backfill_tasks.engine.plans import Sent, sent, whole_scans
from backfill_tasks.options import Pace, Values

#: The size of the page that is planned, in items, and the bound up to which its pending jobs are counted.
_LIMIT, _PENDING = 500, 12

#: SQLSTATE: ON CONFLICT finds no matching unique index.
_NO_SUCH_KEY = "42P10"


def page(context: CommandContext) -> Iterator[Finding]:
    """Check that no page, nor the queries before it, reads a large table whole. The statements are only planned."""
    for backfill in context.parts.backfills.usable():
        with context.parts.engine.begin() as connection:
            begin_read_only(connection, statement_ms=context.settings.statement_timeout_ms)
            if backfill.missing(connection, apply=True):  # `host` reports it
                continue
            options = backfill.with_defaults(context.settings.defaults_with(backfill.options))
            found = list(dict.fromkeys(_of(connection, backfill, options)))
        yield from found
        if not found:
            yield Finding("fine", f"{backfill.name}: pages read by index")


def _of(connection: Connection, backfill: Backfill, options: Values) -> Iterator[Finding]:
    upper = backfill.last_key(connection)
    if upper is None:  # the table is empty: there is no key to bound a page
        return
    for ask in _asked(backfill, connection, upper, options):
        statement = sent(connection, ask)
        if statement is None:
            continue
        try:
            with connection.begin_nested():
                yield from _whole(backfill, connection, statement)
        except DBAPIError as error:
            yield _refused(backfill, error, statement)


def _asked(backfill: Backfill, connection: Connection, upper: str, options: Values) -> list[Callable[[], object]]:
    """Return the calls of a page with default options: its statements and the queries before them."""
    window, context = Window(Bounds(None, upper), _LIMIT, PAGE_ROWS), PageContext(options, datetime.now(UTC))
    return [
        *backfill.statements(connection, window, context),
        lambda: backfill.pending(connection, _PENDING),
        *(partial(connection.execute, each.query.statement) for each in backfill.indicators(Pace(max_live_wait=1.0))),
    ]


def _whole(backfill: Backfill, connection: Connection, statement: Sent) -> Iterator[Finding]:
    for scan in whole_scans(connection, statement):
        what = f"{backfill.name}: each page reads the whole of {scan.table}, about {scan.rows:,} rows"
        advice = scan.index or "No index avoids it: look at the statement's plan."
        yield Finding("WRONG", f"{what}, many times over", advice) if scan.often else Finding("look", what, advice)


def _refused(backfill: Backfill, error: DBAPIError, statement: Sent) -> Finding:
    if sqlstate(error) == _NO_SUCH_KEY and statement.conflict is not None:
        return Finding("WRONG", f"{backfill.name}: the host lacks a unique index that a page needs", statement.conflict)
    what = f"{backfill.name}: a page can't be planned: {reason(error)}"
    return Finding("WRONG" if is_permanent(error) else "look", what)
