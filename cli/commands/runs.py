"""The command `runs`: list the runs."""

import json

import click

from backfill_tasks.cli import render
from backfill_tasks.cli.context import Session
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.snapshot import listed


@click.command()
@click.option("--most", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@as_json
@click.pass_obj
def runs(session: Session, *, most: int, as_json: bool) -> None:
    """List the runs, newest first.

    A run's id begins with the date and time of its start, in UTC. `backfill events` says
    who started it.

    \b
    Examples:
      backfill runs
      backfill runs --most 5 --json
    """
    found = session.client.runs(most)
    if as_json:
        backfills = session.parts.backfills
        seen = [listed(run, backfills.get(run.parameters.backfill)) for run in found]
        click.echo(json.dumps({"runs": seen}, ensure_ascii=False))
        return
    if not found:
        click.echo("There is no run yet: `backfill run --apply` starts one.")
        return
    click.echo(render.runs(found))
