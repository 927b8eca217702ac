"""The command `tune`."""

from typing import TYPE_CHECKING, Any

import click

from backfill_tasks.engine.rate import Rate
from backfill_tasks.errors import UsageError
from backfill_tasks.options import TUNABLE
from cli.fleet_rate import set_rate
from cli.pace import TEN_MINUTES_MS, PageSize, is_given, pace_options, refuse_job_options

if TYPE_CHECKING:
    from cli.context import Session


@click.command()
@click.argument("run")
@click.option("--limit", type=PageSize(), metavar="N", help="Page size, in leads.")
@click.option(
    "--page-delay-ms", type=click.IntRange(0, TEN_MINUTES_MS), metavar="N", help="Pause between the pages of a lane."
)
@pace_options
@click.option("--rate", metavar="RATE", help="The rate of all workers together: 20/s, 600/m, none.")
@click.pass_context
def tune(context: click.Context, /, run: str, **options: Any) -> None:
    """Change a run's pace while it goes on; its next pages go by it.

    \b
    Examples:
      backfill tune 261124-091500-a1b2 --jobs-per-minute 5
      backfill tune 261124-091500-a1b2 --max-pending none --limit 200
    """
    session: Session = context.obj
    changes = {name: options[name] for name in TUNABLE if is_given(context, name)}
    rate = None if options["rate"] is None else Rate.parse(options["rate"])
    if not changes and rate is None:
        raise UsageError("nothing is to be changed: see `backfill tune --help` for what may be")
    found = session.run(run)
    refuse_job_options(context, session.parts.backfills[found.parameters.backfill])
    changed = session.parts.runs.tune(found.id, changes)
    if rate is not None:
        session.require_redis()
        set_rate(session, rate)
    for name, (old, new) in changed.items():
        click.echo(f"Run {found.id}: {name.replace('_', ' ')} {_value(old)} -> {_value(new)}")
    if changes and not changed:
        click.echo(f"Run {found.id} has these already.")


def _value(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
