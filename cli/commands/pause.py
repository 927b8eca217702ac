"""The command `pause`: stop a run so that it can be resumed."""

from collections.abc import Sequence

import click

from backfill_tasks.cli.context import Session
from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.states import IllegalTransitionError
from backfill_tasks.errors import UsageError


@click.command()
@click.argument("run", required=False)
@click.option("--all", "every", is_flag=True, help="Every run that is running.")
@click.pass_obj
def pause(session: Session, run: str | None, *, every: bool) -> None:
    """Stop each lane of a run after its current page.

    Finished pages stay done; jobs already in the host's queue stay there. `backfill
    resume` goes on at any time, on any worker.

    \b
    Examples:
      backfill pause 261124-091500-a1b2
      backfill pause --all
    """
    if every == (run is not None):
        raise UsageError("name one run, or give --all")
    if not every:
        _pause(session, session.client.run(run).id)
        return
    for each in _running(session):
        try:
            _pause(session, each)
        except IllegalTransitionError as ended:  # it ended after it was listed; pause the others all the same
            click.echo(f"Run {each} was {ended.state} already.")


def _pause(session: Session, run: RunId) -> None:
    before = session.client.run(run).state
    session.client.pause(run)
    if before == "paused":
        click.echo(f"Run {run} was paused already.")
    else:
        click.echo(f"Run {run} is paused. Go on with: backfill resume {run}")


def _running(session: Session) -> Sequence[RunId]:
    found = session.client.running()
    if not found:
        click.echo("No run is running.")
    return found
