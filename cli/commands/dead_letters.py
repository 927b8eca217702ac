"""The command `dead-letters`: list the messages that no worker could process."""

import json
from dataclasses import asdict

import click

from backfill_tasks.cli.context import CommandContext, say
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.letters import letters_of
from backfill_tasks.cli.render.text import WIDTH, wrapped
from backfill_tasks.engine import redis_client
from backfill_tasks.escaping import shown
from backfill_tasks.worker.dead_letters import MOST

#: How many letters are shown; --json shows all.
_MOST_SHOWN = 20


@click.command(name="dead-letters")
@click.option("--clear", is_flag=True, help="Remove all dead letters after showing them.")
@as_json
@click.pass_obj
def dead_letters(context: CommandContext, *, clear: bool, as_json: bool) -> None:
    """Show messages that no worker could process, newest first.

    A worker that can't process a message moves it here with the reason, and takes the
    next one. No run loses a page: the watchdog reseeds a lane whose message is lost.

    \b
    Examples:
      backfill dead-letters
      backfill dead-letters --json
      backfill dead-letters --clear
    """
    context.client.require_redis()
    with redis_client.reachable(context.settings.redis_url):
        letters = letters_of(context)
        found = letters.newest()
        if clear:
            letters.clear()
    if as_json:
        click.echo(json.dumps({"dead_letters": [asdict(each) for each in found]}))
        return
    if not found:
        click.echo("There are no dead letters.")
        return
    for each in found[:_MOST_SHOWN]:
        head = f"{shown(each.at, 20)}  {shown(each.queue, 60)}  {each.size:,} bytes"
        click.echo(wrapped(f"{head}: {shown(each.reason)}", indent=2, first=""))
        click.echo(f"  {shown(each.message, WIDTH - 4)}")
    if len(found) > _MOST_SHOWN:
        click.echo(f"… and {len(found) - _MOST_SHOWN:,} older ones; --json lists up to {MOST:,}")
    if clear:
        say(f"Removed the dead letters: {len(found):,}.")
