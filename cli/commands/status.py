"""The command `status`: show a run."""

from typing import Any

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.run_options import OPTIONS
from backfill_tasks.cli.showing import show
from backfill_tasks.errors import UsageError
from backfill_tasks.forecast.what_if import WORK_OPTIONS
from backfill_tasks.kinds import quoted


@click.command()
@click.argument("run", required=False)
@click.option(
    "--if",
    "changes",
    multiple=True,
    metavar="OPTION=VALUE",
    help="Forecast the run with another value of an option of `backfill tune` or `backfill work`. Repeatable; options"
    " of one alternative are separated by commas.",
)
@as_json
@click.pass_obj
def status(context: CommandContext, run: str | None, changes: tuple[str, ...], *, as_json: bool) -> None:
    """Show a run's progress and lanes (default: the newest).

    A lane that waits or has stopped shows the reason, and what to type. `--if` changes
    nothing: it says when the last lead would have its score.

    \b
    Examples:
      backfill status
      backfill status 261124-091500-a1b2 --json
      backfill status --if max-pending=18 --if max-pending=24,jobs-per-minute=30
    """
    alternatives = [_alternative(each) for each in changes]
    show(context, context.client.status(run, what_ifs=alternatives), as_json=as_json)


def _alternative(text: str) -> dict[str, Any]:
    """Parse the options of one alternative.

    Raises:
        UsageError: it isn't a list of OPTION=VALUE, an option doesn't exist, or rejects its value.
    """
    known = {**{name: each for name, each in OPTIONS.items() if each.tunable}, **WORK_OPTIONS}
    found: dict[str, Any] = {}
    for each in text.split(","):
        typed, equals, value = each.partition("=")
        name = typed.strip().removeprefix("--").replace("-", "_")
        if not equals or name not in known:
            flags = ", ".join(one.replace("_", "-") for one in known)
            raise UsageError(f"--if {quoted(each)} is not OPTION=VALUE with an option of these: {flags}")
        try:
            found[name] = known[name].kind.parse(value.strip())
        except ValueError as error:
            raise UsageError(f"--if {typed}: {error}") from None
    return found
