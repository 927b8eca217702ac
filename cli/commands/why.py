"""The command `why`: explain one item."""

import json

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.render.why import answer
from backfill_tasks.registry import DEFAULT


@click.command()
@click.argument("item", metavar="ITEM")
@click.option("--backfill", default=DEFAULT, metavar="NAME", help=f"The backfill (default: {DEFAULT}).")
@as_json
@click.pass_obj
def why(context: CommandContext, item: str, *, backfill: str, as_json: bool) -> None:
    """Explain what became of one item, such as a lead: why has it no score?

    Shows the item as it is now, its job, and where each run put it: lane, page and
    class, or why the run passed it over. Changes nothing. Write an id that begins
    with a hyphen after --.

    \b
    Examples:
      backfill why 5f6c2a9e-3b1d-4b7a-9c59-3a4f0e1d2c77
      backfill why --backfill message-rollups 5f6c2a9e-3b1d-4b7a-9c59-3a4f0e1d2c77
      backfill why --json -- -weird-id
    """
    found = context.client.why(item, backfill=backfill)
    click.echo(json.dumps(found.as_json(), ensure_ascii=False) if as_json else answer(found))
