"""The command `runs`: list the runs."""

import json

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.render.summary import run_list
from backfill_tasks.snapshot import listed


@click.command()
@click.option("--most", type=click.IntRange(1, 1000), default=20, show_default=True, help="The most runs to list.")
@as_json
@click.pass_obj
def runs(context: CommandContext, *, most: int, as_json: bool) -> None:
    """List the runs, newest first.

    A run's id begins with the date and time of its start, in UTC. `backfill events RUN`
    shows who started it.

    \b
    Examples:
      backfill runs
      backfill runs --most 5 --json
    """
    found = context.client.runs(most)
    if as_json:
        backfills = context.parts.backfills
        seen = [listed(run, backfills.get(run.parameters.backfill)) for run in found]
        click.echo(json.dumps({"runs": seen}, ensure_ascii=False))
        return
    if not found:
        click.echo("There are no runs yet. To start one: backfill run --apply")
        return
    click.echo(run_list(found))
