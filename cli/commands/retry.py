"""The command `retry`: retry a run's quarantined items."""

from collections import Counter

import click

from backfill_tasks.cli.context import COMPLETE, QUARANTINED, CommandContext, say
from backfill_tasks.cli.render.text import with_reason
from backfill_tasks.escaping import one_line

#: How many items that fail again are shown one by one.
_MOST_SHOWN = 20

#: The most characters of an error that are shown, without and with --verbose.
_LONGEST_REASON, _LONGEST_WHOLE_REASON = 400, 10_000


@click.command()
@click.argument("run")
@click.option("--verbose", is_flag=True, help="Print the database's whole error, which may include values of the row.")
@click.pass_obj
def retry(context: CommandContext, run: str, *, verbose: bool) -> int:
    """Retry a run's quarantined items, one at a time.

    An item that succeeds moves to its class in the run's counts. Exits with 3 if an item
    stays in quarantine.

    \b
    Examples:
      backfill retry 261124-091500-a1b2
      backfill retry 261124-091500-a1b2 --verbose
    """
    found = context.client.run(run)
    context.client.require_host(found)
    outcomes: Counter[str] = Counter()
    for each in context.client.retry(found.id):
        outcomes[each.outcome] += 1
        if each.outcome == "held":
            say(f"Stopped at {one_line(each.item)}: {one_line(each.reason)}. Try later: backfill retry {found.id}")
        elif each.outcome == "failed again" and outcomes[each.outcome] <= _MOST_SHOWN:
            why, most = (each.whole_reason, _LONGEST_WHOLE_REASON) if verbose else (each.reason, _LONGEST_REASON)
            click.echo(with_reason(each.item, f"failed again: {why}", indent=2, most=most))
    left = context.client.run(found.id).counts.get("quarantined", 0)
    done, failed = outcomes["went through"], outcomes["failed again"]
    click.echo(f"{done + failed:,} retried, {done:,} succeeded, {left:,} left in quarantine.")
    return QUARANTINED if left else COMPLETE
