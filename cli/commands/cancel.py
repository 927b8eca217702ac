"""The command `cancel`."""

import click

from backfill_tasks.cli.context import Session


@click.command()
@click.argument("run")
@click.pass_obj
def cancel(session: Session, run: str) -> None:
    """End a run for good, after the pages that are at work; what it did stays.

    \b
    Example:
      backfill cancel 261124-091500-a1b2
    """
    found = session.client.run(run)
    if not session.parts.runs.cancel(found.id):
        click.echo(f"Run {found.id} was cancelled already.")
        return
    click.echo(f"Run {found.id} is cancelled. What it did stays.")
