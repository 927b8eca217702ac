"""The command `status`: show a run."""

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.showing import show


@click.command()
@click.argument("run", required=False)
@as_json
@click.pass_obj
def status(context: CommandContext, run: str | None, *, as_json: bool) -> None:
    """Show a run's progress and lanes (default: the newest).

    A lane that waits or has stopped shows the reason, and what to type.

    \b
    Examples:
      backfill status
      backfill status 261124-091500-a1b2 --json
    """
    show(context, context.client.status(run), as_json=as_json)
