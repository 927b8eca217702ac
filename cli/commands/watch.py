"""The command `watch`: follow a run."""

from typing import TYPE_CHECKING

import click

from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.showing import follow_to_the_end
from backfill_tasks.cli.signals import signals

if TYPE_CHECKING:
    from backfill_tasks.cli.context import Session


@click.command()
@click.argument("run", required=False)
@as_json
@click.pass_context
def watch(context: click.Context, run: str | None, *, as_json: bool) -> None:
    """Follow a run (default: the newest) until it ends.

    Shows its progress, what holds each lane back, and what the host has done with its
    jobs. Ctrl-C stops watching; the run goes on. Without a terminal it prints a few
    plain lines now and then.

    Exits as `run` does: 0 complete, 1 failed, 3 complete but leads are quarantined, 4
    paused, cancelled or still in progress.

    \b
    Examples:
      backfill watch
      backfill watch 261124-091500-a1b2
    """
    session: Session = context.obj
    found = session.client.run(run)
    with signals() as stopped:
        ended = follow_to_the_end(session, found.id, stopped=stopped, as_json=as_json)
    context.exit(ended)
