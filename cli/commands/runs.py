"""The command `runs`: list the runs."""

import json

import click

from backfill_tasks.engine import ledger
from cli import render
from cli.context import Session
from cli.decorators import as_json
from cli.diagnosis import diagnosed


@click.command()
@click.option("--most", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@as_json
@click.pass_obj
def runs(session: Session, *, most: int, as_json: bool) -> None:
    """List the runs, newest first.

    A run's id begins with the date and time of its start, in UTC; `backfill events` says
    who started it.

    \b
    Examples:
      backfill runs
      backfill runs --most 5 --json
    """
    session.require_ledger()
    parts = session.parts
    with parts.engine.begin() as connection:
        ids = ledger.newest_runs(connection, most)
    found = diagnosed(session, [parts.runs.read(run) for run in ids])
    if as_json:
        objects = []
        for run in found:
            backfill = parts.backfills[run.parameters.backfill]
            objects.append(run.as_json(render.classes(backfill, run), backfill.jobs))
        click.echo(json.dumps({"runs": objects}, ensure_ascii=False))
        return
    if not found:
        click.echo("There is no run yet: `backfill run --apply` starts one.")
        return
    click.echo(render.runs(found))
