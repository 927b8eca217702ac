"""The command `pressure`: measure each reason to postpone pages."""

import json

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.render.text import table, wrapped


@click.command()
@as_json
@click.pass_obj
def pressure(context: CommandContext, *, as_json: bool) -> None:
    """Measure each indicator that can postpone pages.

    Prints each indicator's answer (go, wait or unknown), its value and its threshold.

    \b
    Example:
      backfill pressure
    """
    measured = context.client.pressure()
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
    click.echo(table(("indicator", "answer", "measured", "threshold"), rows))
    for each in measured:
        if each.reason:
            click.echo(wrapped(f"{each.indicator}: {each.reason}", indent=2))
