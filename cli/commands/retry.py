"""The command `retry`: retry a run's quarantined items."""

from collections import Counter

import click

from backfill_tasks.cli import render
from backfill_tasks.cli.context import COMPLETE, QUARANTINED, Session, say
from backfill_tasks.escaping import one_line

#: How many items that fail again are shown one by one.
_MOST_SHOWN = 20


#: The most characters of an error that are shown, without and with --verbose.
_LONGEST_REASON, _LONGEST_WHOLE_REASON = 400, 10_000


@click.command()
@click.argument("run")
@click.option("--verbose", is_flag=True, help="Print all that the database says, values of the lead's row included.")
@click.pass_context
def retry(context: click.Context, run: str, *, verbose: bool) -> None:
    """Retry a run's quarantined leads, one at a time.

    Leads that succeed are counted as the run's. Exits with 3 if any stay in quarantine.

    \b
    Examples:
      backfill retry 261124-091500-a1b2
      backfill retry 261124-091500-a1b2 --verbose
    """
    session: Session = context.obj
    found = session.client.run(run)
    session.client.require_host(found)
    outcomes: Counter[str] = Counter()
    for each in session.client.retry(found.id):
        outcomes[each.outcome] += 1
        if each.outcome == "held":
            say(f"Held at {one_line(each.item)}: {one_line(each.reason)}. Later: backfill retry {found.id}")
        elif each.outcome == "failed again" and outcomes[each.outcome] <= _MOST_SHOWN:
            why, most = (each.whole_reason, _LONGEST_WHOLE_REASON) if verbose else (each.reason, _LONGEST_REASON)
            click.echo(render.with_reason(each.item, f"failed again: {why}", indent=2, most=most))
    left = session.client.run(found.id).counts.get("quarantined", 0)
    done, failed = outcomes["went through"], outcomes["failed again"]
    click.echo(f"{done + failed:,} tried again, {done:,} went through, {left:,} left in quarantine.")
    context.exit(QUARANTINED if left else COMPLETE)
