"""The command `pressure`: measure what holds pages back."""

import json

import click

from backfill_tasks.cli import render
from backfill_tasks.cli.context import Session


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_obj
def pressure(session: Session, *, as_json: bool) -> None:
    """Measure each indicator that can hold pages back.

    Shows its answer, its value and its threshold.

    \b
    Example:
      backfill pressure
    """
    measured = session.client.pressure()
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
