"""The command `run`: count what a run would do, start it, or resume one."""

from pathlib import Path
from textwrap import fill
from typing import Any

import click

from backfill_tasks.cli.context import CommandContext, say
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.flags import GroupedCommand, declared, kebab_case, option
from backfill_tasks.cli.resume import resume
from backfill_tasks.cli.run_options import OWN_OPTIONS, parse
from backfill_tasks.cli.start import start
from backfill_tasks.options import RUN_OPTIONS
from backfill_tasks.registry import DEFAULT, KINDS

#: The width of the list of backfills, in columns.
_WIDTH = 78


def _backfills() -> str:
    """Return the list of backfills with their summaries, wrapped into two columns."""
    usable = KINDS.usable()
    margin = max((len(each.name) for each in usable), default=0) + 2
    return "\n".join(
        fill(
            f"{'(the default) ' if each.name == DEFAULT else ''}{each.summary}",
            _WIDTH,
            initial_indent=each.name.ljust(margin),
            subsequent_indent=" " * margin,
        )
        for each in usable
    )


_HELP = f"""Run the backfill NAME over its table, page by page.

\b
{_backfills()}

Without --apply this is a dry run: it counts all pages through the same selection,
and writes nothing to the database or to Redis.

\b
Examples:
  backfill run                          count what a run would do
  backfill run --forecast-cost openai   and what scoring them here would cost
  backfill run --apply                  do it; Ctrl-C only detaches
  backfill run --apply --client-id ID   only one workspace
  backfill run --apply --canary         do one page, then pause
  backfill run --apply --jobs-per-minute 15 --max-jobs 5000
  backfill run --resume                 continue the unfinished run
  backfill run message-rollups --apply  run another backfill

\b
Exit status: 0 complete, 1 failed, 2 wrong usage, 3 complete with items in
quarantine, 4 not complete (paused, cancelled, detached).
"""


@click.command(help=_HELP, cls=GroupedCommand, context_settings={"token_normalize_func": kebab_case})
@click.argument("name", metavar="[NAME]", type=click.Choice(list(KINDS)), required=False)
@option("--dry-run", is_flag=True, help="Count all pages and write nothing (the default).")
@option("--apply", is_flag=True, help="Write: do the work of every page.")
@option("--canary", is_flag=True, help="With --apply: do one page, verify it, and pause the run.")
@option("--resume", is_flag=True, help="Continue the newest unfinished run (of NAME), or the one in --state-file.")
@declared(OWN_OPTIONS.values())
@declared(RUN_OPTIONS.values())
@option("--rate", group="pace", metavar="RATE", help="Set the rate of all workers together first: 20/s, 600/m, none.")
@option("--run-until-done", group="compatibility", is_flag=True, help="Do all pages (the default).")
@option(
    "--single-batch",
    group="compatibility",
    is_flag=True,
    help="Do one page, then pause the run. Skips up to 1,000 pages of a lane that read no items.",
)
@option(
    "--state-file",
    group="compatibility",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write the checkpoint to this file, too, as JSON (default: no file).",
)
@option(
    "--forecast-cost",
    metavar="SCORER",
    help="In a dry run: forecast what `backfill work --scorer SCORER` would cost for these leads.",
)
@option("--force", is_flag=True, help="Start even if an unfinished run walks the same rows.")
@option("--yes", is_flag=True, help="Start without asking for confirmation.")
@option("--detach", is_flag=True, help="Return as soon as the run has started.")
@as_json
@click.pass_context
def run(click_context: click.Context, /, **options: Any) -> int:
    """Run a backfill page by page; without --apply, a dry run."""
    context: CommandContext = click_context.obj
    run_options = parse(click_context, options, context.settings)
    if options["resume"] and options["cursor"] is not None:
        say("--resume is ignored, because --cursor is given.")
    elif options["resume"]:
        return resume(context, run_options)
    return start(context, run_options)
