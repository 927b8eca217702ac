"""The command `watch`: follow a run."""

from typing import TYPE_CHECKING

import click

from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.showing import follow_to_the_end
from backfill_tasks.cli.signals import signals

if TYPE_CHECKING:
    from backfill_tasks.cli.context import CommandContext


@click.command()
@click.argument("run", required=False)
@as_json
@click.pass_obj
def watch(context: "CommandContext", run: str | None, *, as_json: bool) -> int:
    """Follow a run (default: the newest) until it ends.

    Shows its progress, the reason why a lane waits, and the state of its jobs at the
    host. Ctrl-C stops watching, and the run continues. Without a terminal it prints a
    few plain lines now and then.

    \b
    Exit status: 0 complete, 1 failed, 3 complete with items in quarantine,
    4 paused, cancelled or still in progress.

    \b
    Examples:
      backfill watch
      backfill watch 261124-091500-a1b2
    """
    found = context.client.run(run)
    with signals() as stopped:
        return follow_to_the_end(context, found.id, stopped=stopped, as_json=as_json)
