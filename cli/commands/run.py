"""The command `run`: count what would happen, or do it, or go on with what was begun."""

import re
from pathlib import Path
from typing import Any

import click

from backfill_tasks.registry import KINDS
from backfill_tasks.settings import number
from cli.context import Session, say
from cli.pace import TEN_MINUTES_MS, Bound, PageSize, pace_options
from cli.resume import resume
from cli.run_options import MOST_LANES, parse
from cli.start import start

_DAY_MS = 86_400_000
_LEAST_COST, _MOST_COST = 0.000_001, 1_000_000


def _as_ours(name: str) -> str:
    """Read an option's name as the old script wrote it: dryRun is dry-run."""
    return re.sub(r"(?<=[a-z])([A-Z])", r"-\1", name).lower() if re.fullmatch(r"[a-z]+([A-Z][a-z]*)+", name) else name


@click.command(context_settings={"token_normalize_func": _as_ours})
@click.argument("name", metavar="[NAME]", type=click.Choice(list(KINDS)), required=False)
@click.option("--dry-run", is_flag=True, help="Count what would happen, all of it, writing nothing (the default).")
@click.option("--apply", is_flag=True, help="Do it.")
@click.option(
    "--client-id",
    "--clientId",
    "client_ids",
    multiple=True,
    metavar="ID",
    help="Only this workspace; repeatable.",
)
@click.option("--limit", type=PageSize(), default=500, show_default=True, help="Page size, in leads.")
@click.option("--cursor", metavar="ID", help="Start after this lead.")
@click.option("--rescore-all", is_flag=True, help="Lead scoring: scored leads too (default: unscored only).")
@click.option(
    "--delay-ms",
    type=click.IntRange(0, _DAY_MS),
    default=0,
    show_default=True,
    help="Lead scoring: the n-th job of the run is due n times this after its start.",
)
@click.option("--run-until-done", is_flag=True, help="All pages (the default).")
@click.option(
    "--single-batch",
    is_flag=True,
    help="Do one page that reads something, then pause. Up to 1,000 empty pages of a lane are passed to find it.",
)
@click.option(
    "--canary",
    is_flag=True,
    help="The same, at the start of a new run: verify that page and pause until you resume.",
)
@pace_options
@click.option(
    "--cost-per-job",
    type=Bound(number(_LEAST_COST, _MOST_COST, off=False)),
    metavar="X",
    help="What one job costs you: counts then speak of money too.",
)
@click.option(
    "--page-delay-ms",
    type=click.IntRange(0, TEN_MINUTES_MS),
    default=0,
    show_default=True,
    help="Pause between the pages of a lane.",
)
@click.option(
    "--state-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write the checkpoint there as well, as JSON (default: none, the cursor is in Redis).",
)
@click.option("--resume", is_flag=True, help="Go on with the newest unfinished run (of NAME), or --state-file's.")
@click.option("--lanes", type=click.IntRange(1, MOST_LANES), help="How many lanes (default: BACKFILL_LANES, 2).")
@click.option("--rate", metavar="RATE", help="Set the rate of all workers together first: 20/s, 600/m, none.")
@click.option("--force", is_flag=True, help="Start even where an unfinished run walks the same leads.")
@click.option("--yes", is_flag=True, help="Don't ask before --apply starts.")
@click.option("--detach", is_flag=True, help="Return as soon as the run is seeded.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, the rest on standard error.")
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Walk all leads, page by page, and do what NAME says.

    \b
    lead-scoring     (the default) enqueue the scoring of every lead that has none
    message-rollups  bring each lead's lastInboundAt, lastOutboundAt,
                     lastZrgOutboundAt, lastMessageAt and lastMessageDirection
                     up to its messages

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
    session: Session = context.obj
    run_options = parse(context, options, session.settings)
    if options["resume"] and options["cursor"] is not None:
        say("--resume is ignored, because --cursor is given.")
    elif options["resume"]:
        context.exit(resume(session, run_options))
    context.exit(start(session, run_options))
