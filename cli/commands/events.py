"""The command `events`: list the events of a run."""

import json

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.render.events import event_lines


@click.command()
@click.argument("run", required=False)
@as_json
@click.pass_obj
def events(context: CommandContext, run: str | None, *, as_json: bool) -> None:
    """List the events of a run (default: the newest).

    Each event has its time in UTC, its author and what it changed.

    \b
    Example:
      backfill events 261124-091500-a1b2
    """
    found = context.client.run(run)
    happened = context.client.events(found.id)
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
        for line in event_lines(each):
            click.echo(line)
