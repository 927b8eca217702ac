"""The command `resume`: resume a paused or failed run."""

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.showing import say_what_redis_had_lost, say_whether_workers_are_online


@click.command()
@click.argument("run")
@click.pass_obj
def resume(context: CommandContext, run: str) -> None:
    """Resume a paused or failed run where each lane stopped.

    \b
    Example:
      backfill resume 261124-091500-a1b2
    """
    found = context.client.run(run)
    say_what_redis_had_lost(context.client.resume(found.id))
    click.echo(f"Run {found.id} is resumed. To follow it: backfill watch {found.id}")
    say_whether_workers_are_online(pages=found.pages)
