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
@click.option("--until-scored", is_flag=True, help="Follow a complete run on, until no lead waits for its score.")
@as_json
@click.pass_obj
def watch(context: "CommandContext", run: str | None, *, until_scored: bool, as_json: bool) -> int:
    """Follow a run (default: the newest) until it ends.

    Shows how many items are enqueued and how many have their result, when the last one
    has it, and the reason why a lane waits. Ctrl-C stops watching, and the run
    continues. Without a terminal it prints a few plain lines now and then.

    A run is complete once its items are enqueued. With --until-scored it is followed
    until each of them has its result, or will get none.

    \b
    Exit status: 0 complete, 1 failed, 3 complete with items in quarantine,
    4 paused, cancelled or still in progress. With --until-scored: 3 also if an
    item got no result, 4 also if one still waits.

    \b
    Examples:
      backfill watch
      backfill watch 261124-091500-a1b2
      backfill watch --until-scored
    """
    found = context.client.run(run)
    with signals() as stopped:
        return follow_to_the_end(context, found.id, stopped=stopped, as_json=as_json, until_scored=until_scored)
