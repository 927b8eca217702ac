"""The command `dead-letters`: list the messages that no worker could process."""

import json
from dataclasses import asdict

import click

from backfill_tasks.cli import render
from backfill_tasks.cli.context import Session, say
from backfill_tasks.cli.letters import letters_of
from backfill_tasks.engine import redis_client
from backfill_tasks.escaping import shown
from backfill_tasks.worker.dead_letters import MOST

#: How many letters are shown; --json shows all.
_MOST_SHOWN = 20


@click.command(name="dead-letters")
@click.option("--clear", is_flag=True, help="Remove them after showing them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_obj
def dead_letters(session: Session, *, clear: bool, as_json: bool) -> None:
    """Show messages that no worker could process, newest first.

    A worker parks such a message with the reason and goes on. No run loses anything:
    the watchdog reseeds a lane whose message is lost.

    \b
    Examples:
      backfill dead-letters
      backfill dead-letters --json
      backfill dead-letters --clear
    """
    session.client.require_redis()
    with redis_client.reachable(session.settings.redis_url):
        letters = letters_of(session)
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
        click.echo(render.wrapped(f"{head}: {shown(each.reason)}", indent=2, first=""))
        click.echo(f"  {shown(each.message, render.WIDTH - 4)}")
    if len(found) > _MOST_SHOWN:
        click.echo(f"{len(found) - _MOST_SHOWN:,} older ones: --json shows the newest {MOST:,}")
    if clear:
        say(f"Removed {len(found):,}.")
