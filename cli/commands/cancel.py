"""The command `cancel`: end a run for good."""

import click

from backfill_tasks.cli.context import CommandContext


@click.command()
@click.argument("run")
@click.pass_obj
def cancel(context: CommandContext, run: str) -> None:
    """End a run for good. Finished pages stay done.

    Pages in flight finish first. A cancelled run can't be resumed: only a new run does
    the rest.

    \b
    Example:
      backfill cancel 261124-091500-a1b2
    """
    found = context.client.run(run)
    context.client.cancel(found.id)
    if found.state == "cancelled":
        click.echo(f"Run {found.id} was already cancelled.")
        return
    click.echo(f"Run {found.id} is cancelled. Finished pages stay done.")
