"""The command `cancel`: end a run for good."""

import click

from backfill_tasks.cli.context import Session


@click.command()
@click.argument("run")
@click.pass_obj
def cancel(session: Session, run: str) -> None:
    """End a run for good; what it has done stays.

    Pages in flight finish first. A cancelled run can't be resumed.

    \b
    Example:
      backfill cancel 261124-091500-a1b2
    """
    found = session.client.run(run)
    session.client.cancel(found.id)
    if found.state == "cancelled":
        click.echo(f"Run {found.id} was cancelled already.")
        return
    click.echo(f"Run {found.id} is cancelled. What it did stays.")
