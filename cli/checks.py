"""The command `pressure`: what holds pages back just now, measured."""

import json

import click
from sqlalchemy import Connection

from backfill_tasks.engine import schema
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.indicators import PageDuration, Reading
from backfill_tasks.engine.pace import Pace
from backfill_tasks.errors import LedgerError
from cli import render
from cli.session import Session


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_obj
def pressure(session: Session, *, as_json: bool) -> None:
    """Measure what holds pages back: each indicator with its value, threshold and answer.

    \b
    Example:
      backfill pressure
    """
    measured = readings(session)
    if as_json:
        content = [
            {
                "indicator": each.indicator,
                "answer": each.answer,
                "value": each.value,
                "threshold": each.threshold,
                "reason": each.reason or None,
            }
            for each in measured
        ]
        click.echo(json.dumps({"pressure": content}, ensure_ascii=False))
        return
    rows = [(each.indicator, each.answer, each.value, each.threshold) for each in measured]
    click.echo(render.table(("indicator", "answer", "measured", "threshold"), rows))
    for each in measured:
        if each.reason:
            click.echo(render.wrapped(f"{each.indicator}: {each.reason}", indent=2))


def readings(session: Session) -> list[Reading]:
    """What every indicator says, those of every backfill's queue included, whether pages ask it or not."""
    parts = session.parts
    pace = Pace(max_live_wait=session.settings.max_live_wait)
    with parts.engine.begin() as connection:
        known = _has_ledger(connection)
        begin_read_only(connection, statement_ms=session.settings.statement_timeout_ms)
        own = [each for backfill in parts.backfills.values() for each in backfill.indicators(pace)]
        general = [each for each in parts.pressure.indicators if known or not isinstance(each, PageDuration)]
        return parts.pressure.readings(connection, [*own, *general])


def _has_ledger(connection: Connection) -> bool:
    """Whether there is a ledger that this role may read: without it, no page's duration is known."""
    try:
        return bool(schema.version(connection))
    except LedgerError:
        return False
