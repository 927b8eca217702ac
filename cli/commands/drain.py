"""The command `drain`: have the workers call the host's own runner more often."""

import json
from typing import Any

import click

from backfill_tasks.cli.context import CommandContext, say
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.flags import declared, given
from backfill_tasks.cli.render import drain as render
from backfill_tasks.cli.showing import say_whether_a_worker_can_drain
from backfill_tasks.drain.orders import OPTIONS
from backfill_tasks.errors import UsageError


@click.command()
@click.option("--url", metavar="URL", help="Start, or give an active drain new orders: the URL of the cron route.")
@declared(OPTIONS, defaults=False)
@click.option("--allow-http", is_flag=True, help="Accept http:// to other machines: the secret travels in clear.")
@click.option("--stop", is_flag=True, help="Stop. Calls in flight end on their own.")
@click.option("--status", is_flag=True, help="Show what the drain does, and why.")
@as_json
@click.pass_context
def drain(click_context: click.Context, /, *, as_json: bool, **options: Any) -> None:
    """Call the host's own runner more often than its cron does.

    The workers call the host's cron route while jobs of ours are due, and pause while
    live jobs wait or jobs fail. The host claims its jobs one by one, so no job is done
    twice. The secret is in BACKFILL_CRON_SECRET, or in the file that
    BACKFILL_CRON_SECRET_FILE names, where the workers run.

    \b
    Examples:
      backfill drain --url https://host/api/cron/background-jobs
      backfill drain --url https://host/api/cron/background-jobs \\
        --every 10s --parallel 2 --until-done
      backfill drain --status
      backfill drain --stop
    """
    context: CommandContext = click_context.obj
    _require_one(click_context, options)
    if options["url"] is not None:
        wanted = given(click_context, OPTIONS)
        seen = context.client.drain(options["url"], allow_http=options["allow_http"], **wanted)
        say("The drain is on. `backfill drain --status` shows it, `backfill drain --stop` ends it.")
        say_whether_a_worker_can_drain()
    else:
        seen = context.client.stop_drain() if options["stop"] else context.client.drain_status()
    click.echo(json.dumps(seen.as_json(), ensure_ascii=False) if as_json else render.overview(seen))


def _require_one(click_context: click.Context, options: dict[str, Any]) -> None:
    """Reject a command line that doesn't say exactly one thing."""
    if [options["url"] is not None, options["stop"], options["status"]].count(True) != 1:
        raise UsageError("give one of --url, --stop and --status: see `backfill drain --help`")
    if options["url"] is None and (given(click_context, OPTIONS) or options["allow_http"]):
        raise UsageError("only --url takes options: give the URL again to change them")
