"""What the command line of `run` asks for, read and checked against itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Bounds, Mode
from backfill_tasks.engine.rate import Rate
from backfill_tasks.errors import UsageError
from backfill_tasks.options import Parameters
from backfill_tasks.registry import DEFAULT, KINDS
from backfill_tasks.settings import Settings
from cli.pace import is_given, pace_of

MOST_LANES = 64

#: Options that are a run's own parameters, by the name that the run has for them.
PARAMETERS = {
    "limit": "--limit",
    "lanes": "--lanes",
    "client_ids": "--client-id",
    "rescore_all": "--rescore-all",
    "delay_ms": "--delay-ms",
    "page_delay_ms": "--page-delay-ms",
    "jobs_per_minute": "--jobs-per-minute",
    "max_pending": "--max-pending",
    "max_jobs": "--max-jobs",
    "max_live_wait": "--max-live-wait",
    "target_page_ms": "--target-page-ms",
    "cost_per_job": "--cost-per-job",
}


@dataclass(frozen=True)
class RunOptions:
    """What is asked for.

    Attributes:
        mode: dry run or apply.
        parameters: the new run's parameters.
        named: the backfill is named on the command line, and not only the default.
        given: the parameters that stand on the command line, and are not there only by default.
        smallest_lane: how many leads a lane holds at least.
        single_batch: one page only.
        canary: one page, and then a report of what it did.
        state_file: where to write the checkpoint as well.
        rate: the fleet's rate from now on; None: as it is.
        yes, force, detach, as_json: the options of these names.
        ordinal: how many jobs an earlier run has numbered.
        stretches: what an earlier run has left over; None: cut anew.
    """

    mode: Mode
    parameters: Parameters
    named: bool
    given: frozenset[str]
    smallest_lane: int
    single_batch: bool
    canary: bool
    state_file: Path | None
    yes: bool
    force: bool
    detach: bool
    as_json: bool
    rate: Rate | None = None
    ordinal: int = 0
    stretches: tuple[Bounds, ...] | None = None


def parse(context: click.Context, options: dict[str, Any], settings: Settings) -> RunOptions:
    """Read the options.

    Raises:
        UsageError: they contradict each other, or are another backfill's.
    """
    for one, other in (("dry_run", "apply"), ("run_until_done", "single_batch")):
        if options[one] and options[other]:
            raise UsageError(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} contradict each other")
    if options["dry_run"] and options["resume"] and options["cursor"] is None:
        raise UsageError("--resume goes on with a run that applies: leave --dry-run away")
    if options["cursor"] == "":
        raise UsageError("--cursor is empty: give a lead's id, or leave it away to start from the beginning")
    if options["single_batch"] and (options["lanes"] or 1) > 1:
        raise UsageError("--single-batch does one page, and so has one lane: leave --lanes away")
    if options["canary"] and (options["single_batch"] or options["resume"] or not options["apply"]):
        raise UsageError(
            "--canary is the first page of a new run: it goes with --apply, and not with --single-batch or --resume"
        )
    if options["detach"] and not options["apply"] and not options["resume"]:
        raise UsageError("--detach goes with --apply: a dry run counts in this very process")
    if options["force"] and not options["apply"] and not options["resume"]:
        raise UsageError("--force goes with --apply: a dry run may go beside any other")
    if options["rate"] is not None and not options["apply"] and not options["resume"]:
        raise UsageError("--rate goes with --apply: a dry run counts in this very process, as fast as it can")
    kind = KINDS[options["name"] or DEFAULT]
    parameters = Parameters(
        backfill=kind.name,
        limit=options["limit"],
        lanes=1 if options["single_batch"] else options["lanes"] or settings.lanes,
        cursor=options["cursor"],
        page_delay_ms=options["page_delay_ms"],
        options=_own_options(context, kind, options),
        pace=pace_of(context, options, settings, kind),
        cost_per_job=options["cost_per_job"],
    )
    return RunOptions(
        mode="apply" if options["apply"] else "dry-run",
        parameters=parameters,
        named=options["name"] is not None,
        given=frozenset(name for name in PARAMETERS if is_given(context, name)),
        # A lane of the tool's own choice holds a page at least; one that was asked for may hold a single lead.
        smallest_lane=1 if options["lanes"] else options["limit"],
        single_batch=options["single_batch"] or options["canary"],
        canary=options["canary"],
        state_file=options["state_file"],
        yes=options["yes"],
        force=options["force"],
        detach=options["detach"],
        as_json=options["as_json"],
        rate=None if options["rate"] is None else Rate.parse(options["rate"]),
    )


def _own_options(context: click.Context, kind: type[Backfill], options: dict[str, Any]) -> dict[str, Any]:
    """The options that are the backfill's own.

    Raises:
        UsageError: one that stands on the command line is another backfill's.
    """
    own = {
        "client_ids": sorted(set(options["client_ids"])) or None,
        "rescore_all": options["rescore_all"],
        "delay_ms": options["delay_ms"],
    }
    for name in own:
        if name not in kind.option_names and is_given(context, name):
            raise UsageError(f"{kind.name} has no {PARAMETERS[name]}: leave it away")
    return {name: own[name] for name in kind.option_names}
