"""The command `pause`: stop a run so that it can be resumed."""

from collections.abc import Sequence

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.states import IllegalTransitionError
from backfill_tasks.errors import UsageError


@click.command()
@click.argument("run", required=False)
@click.option("--all", "every", is_flag=True, help="Pause every running run.")
@click.pass_obj
def pause(context: CommandContext, run: str | None, *, every: bool) -> None:
    """Stop each lane of a run after its current page.

    Finished pages stay done, and jobs that are in the host's queue stay there. `backfill
    resume` continues the run at any time, on any worker.

    \b
    Examples:
      backfill pause 261124-091500-a1b2
      backfill pause --all
    """
    if every == (run is not None):
        raise UsageError("name one run, or use --all")
    if not every:
        _pause(context, context.client.run(run).id)
        return
    for each in _running(context):
        try:
            _pause(context, each)
        except IllegalTransitionError as ended:  # it ended after it was listed; pause the others all the same
            click.echo(f"Run {each} was already {ended.state}.")


def _pause(context: CommandContext, run: RunId) -> None:
    before = context.client.run(run).state
    context.client.pause(run)
    if before == "paused":
        click.echo(f"Run {run} was already paused.")
    else:
        click.echo(f"Run {run} is paused. To continue it: backfill resume {run}")


def _running(context: CommandContext) -> Sequence[RunId]:
    found = context.client.running()
    if not found:
        click.echo("No run is running.")
    return found
