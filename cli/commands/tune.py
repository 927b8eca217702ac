"""The command `tune`: change the pace of a running backfill."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from backfill_tasks.cli.flags import declared, given
from backfill_tasks.cli.fleet_rate import say_the_new_rate
from backfill_tasks.cli.run_options import OPTIONS, flag_of
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.rate import Rate
from backfill_tasks.errors import OptionConflictError, UsageError
from backfill_tasks.options import all_options

if TYPE_CHECKING:
    from backfill_tasks.cli.context import CommandContext


#: The tunable options of every run, and of all backfills.
_TUNABLE = [each for each in OPTIONS.values() if each.tunable]


@click.command()
@click.argument("run")
@declared(_TUNABLE, defaults=False)
@click.option("--rate", metavar="RATE", help="Set the rate of all workers together: 20/s, 600/m, none.")
@click.pass_context
def tune(click_context: click.Context, /, run: str, **options: Any) -> None:
    """Change a run's pace, from its next pages on.

    \b
    Examples:
      backfill tune 261124-091500-a1b2 --jobs-per-minute 5
      backfill tune 261124-091500-a1b2 --max-pending none --limit 200
    """
    context: CommandContext = click_context.obj
    changes = given(click_context, _TUNABLE)
    rate = None if options["rate"] is None else Rate.parse(options["rate"])
    if not changes and rate is None:
        raise UsageError("no change is given: `backfill tune --help` lists the options")
    found = context.client.run(run)
    _refuse_meaningless(context.parts.backfills[found.parameters.backfill], changes)
    try:
        changed = context.client.tune(found.id, **changes)
    except OptionConflictError as error:
        raise UsageError(f"run {error.run} has {flag_of(error.has)}: {flag_of(error.other)} contradicts it") from None
    if rate is not None:
        context.client.require_redis()
        say_the_new_rate(rate, context.client.set_rate(rate))
    for name, (old, new) in changed.items():
        click.echo(f"Run {found.id}: {name.replace('_', ' ')} {_value(old)} -> {_value(new)}")
    if changes and not changed:
        click.echo(f"Run {found.id} already has these values.")


def _value(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _refuse_meaningless(backfill: Backfill, changes: Mapping[str, Any]) -> None:
    """Raise UsageError for an option of another backfill, or about jobs if the backfill enqueues none."""
    known = all_options(backfill.options)
    for name in changes:
        if name not in known:
            raise UsageError(f"{backfill.name} has no {flag_of(name)}: remove it")
        if known[name].needs_jobs and not backfill.jobs:
            raise UsageError(f"{backfill.name} enqueues no jobs, so {flag_of(name)} has no effect: remove it")
