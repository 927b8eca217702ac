"""The command `run`: count what a run would do, start it, or resume one."""

from pathlib import Path
from textwrap import fill
from typing import Any

import click

from backfill_tasks.cli.context import Session, say
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


_HELP = f"""Walk a table page by page, and do what NAME says.

\b
{_backfills()}

Without --apply this is a dry run: it counts every page through the same selection
and changes nothing, neither in the database nor in Redis.

\b
Examples:
  backfill run                          what would happen
  backfill run --apply                  do it; Ctrl-C only detaches
  backfill run --apply --client-id ID   one workspace
  backfill run --apply --canary         one page first, to look at
  backfill run --apply --jobs-per-minute 15 --max-jobs 5000
  backfill run --resume                 go on with what was begun
  backfill run message-rollups --apply  another backfill

\b
Exit status: 0 complete, 1 failed, 2 wrong usage, 3 complete but leads are
quarantined, 4 not complete (paused, cancelled, detached).
"""


@click.command(help=_HELP, cls=GroupedCommand, context_settings={"token_normalize_func": kebab_case})
@click.argument("name", metavar="[NAME]", type=click.Choice(list(KINDS)), required=False)
@option("--dry-run", is_flag=True, help="Count what would happen, all of it, writing nothing (the default).")
@option("--apply", is_flag=True, help="Do it.")
@option("--canary", is_flag=True, help="With --apply: do one page, verify it, and pause until you resume.")
@option("--resume", is_flag=True, help="Go on with the newest unfinished run (of NAME), or --state-file's.")
@declared(OWN_OPTIONS.values())
@declared(RUN_OPTIONS.values())
@option("--rate", group="pace", metavar="RATE", help="First set the rate of all workers together: 20/s, 600/m, none.")
@option("--run-until-done", group="compatibility", is_flag=True, help="All pages (the default).")
@option(
    "--single-batch",
    group="compatibility",
    is_flag=True,
    help="Do one page that reads something, then pause. Passes up to 1,000 empty pages of a lane to find it.",
)
@option(
    "--state-file",
    group="compatibility",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write the checkpoint there as well, as JSON (default: none, the cursor is in Redis).",
)
@option("--force", is_flag=True, help="Start even beside an unfinished run that walks the same rows.")
@option("--yes", is_flag=True, help="Don't ask before --apply starts.")
@option("--detach", is_flag=True, help="Return as soon as the run is seeded.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output, the rest on standard error.")
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Run a backfill page by page; without --apply, a dry run."""
    session: Session = context.obj
    run_options = parse(context, options, session.settings)
    if options["resume"] and options["cursor"] is not None:
        say("--resume is ignored, because --cursor is given.")
    elif options["resume"]:
        context.exit(resume(session, run_options))
    context.exit(start(session, run_options))
