"""The command `events`: list the events of a run."""

import json

import click

from backfill_tasks.cli import render
from backfill_tasks.cli.context import Session


@click.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_obj
def events(session: Session, run: str | None, *, as_json: bool) -> None:
    """List the events of a run (default: the newest).

    Each entry says when it happened (in UTC), what changed and who did it.

    \b
    Example:
      backfill events 261124-091500-a1b2
    """
    found = session.client.run(run)
    happened = session.client.events(found.id)
    if as_json:
        content = [
            {"at": each.at.isoformat(), "event": each.name, "detail": dict(each.detail), "by": each.who}
            for each in happened
        ]
        click.echo(json.dumps({"run_id": found.id, "events": content}, ensure_ascii=False))
        return
    click.echo(f"Events of run {found.id}, in UTC")
    click.echo()
    for each in happened:
        for line in render.event(each):
            click.echo(line)
