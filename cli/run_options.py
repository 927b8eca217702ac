"""What the command line of `run` asks for, read and checked against itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from backfill_tasks.cli.flags import given
from backfill_tasks.client import Order
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Mode
from backfill_tasks.engine.rate import Rate
from backfill_tasks.errors import UsageError
from backfill_tasks.options import RUN_OPTIONS, Option, OptionError, Parameters, resolve
from backfill_tasks.registry import DEFAULT, KINDS
from backfill_tasks.settings import Settings

#: Every option that some backfill has of its own, by name.
OWN_OPTIONS = KINDS.options()

#: Every option that is a run's parameter, by name.
OPTIONS = {**RUN_OPTIONS, **OWN_OPTIONS}


@dataclass(frozen=True)
class RunOptions:
    """What is asked for.

    Attributes:
        mode: dry run or apply.
        order: the new run.
        named: the command line names the backfill.
        given: the parameters that stand on the command line.
        canary: one page, and then a report of what it did.
        state_file: where to write the checkpoint as well.
        yes, detach, as_json: the options of these names.
    """

    mode: Mode
    order: Order
    named: bool
    given: frozenset[str]
    canary: bool
    state_file: Path | None
    yes: bool
    detach: bool
    as_json: bool


def parse(context: click.Context, options: dict[str, Any], settings: Settings) -> RunOptions:
    """Read the options.

    Raises:
        UsageError: they contradict each other, or are another backfill's.
    """
    _refuse_contradictions(options)
    kind = KINDS.choose(options["name"] or DEFAULT)
    asked = given(context, OPTIONS.values())
    if options["single_batch"]:
        if asked.get("lanes", 1) > 1:
            raise UsageError("--single-batch does one page, and so has one lane: remove --lanes")
        asked["lanes"] = 1
    order = Order(
        parameters_of(kind, asked, settings),
        single_batch=options["single_batch"] or options["canary"],
        force=options["force"],
        # A lane that we choose holds at least a page; one that was asked for may hold a single row.
        smallest_lane=1 if "lanes" in asked else None,
        rate=None if options["rate"] is None else Rate.parse(options["rate"]),
    )
    return RunOptions(
        mode="apply" if options["apply"] else "dry-run",
        order=order,
        named=options["name"] is not None,
        given=frozenset(asked),
        canary=options["canary"],
        state_file=options["state_file"],
        yes=options["yes"],
        detach=options["detach"],
        as_json=options["as_json"],
    )


def parameters_of(kind: Backfill, asked: dict[str, Any], settings: Settings) -> Parameters:
    """Return a new run's parameters.

    Raises:
        UsageError: an option is another backfill's, or two say the same.
    """
    own = {each.name for each in kind.options}
    for name in asked:
        if name not in RUN_OPTIONS and name not in own:
            raise UsageError(f"{kind.name} has no {OPTIONS[name].on_command_line}: remove it")
    try:
        return resolve(kind.name, kind.options, has_jobs=bool(kind.jobs), asked=asked, defaults=settings.defaults)
    except OptionError as error:
        raise UsageError(in_flags(error)) from None


def in_flags(error: OptionError) -> str:
    """Return an error about an option in the words of the command line."""
    why = error.why
    for each in OPTIONS.values():
        why = why.replace(each.name, each.on_command_line) if "_" in each.name else why
    return f"{error.option.on_command_line}: {why}"


def flag_of(name: str) -> str:
    """Return the flag of an option."""
    found: Option = OPTIONS[name]
    return found.on_command_line


def _refuse_contradictions(options: dict[str, Any]) -> None:
    for one, other in (("dry_run", "apply"), ("run_until_done", "single_batch")):
        if options[one] and options[other]:
            raise UsageError(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} contradict each other")
    if options["dry_run"] and options["resume"] and options["cursor"] is None:
        raise UsageError("--resume goes on with a run that applies: remove --dry-run")
    if options["canary"] and (options["single_batch"] or options["resume"] or not options["apply"]):
        raise UsageError(
            "--canary is the first page of a new run: give it with --apply, not with --single-batch or --resume"
        )
    applies = options["apply"] or options["resume"]
    for name, why in (
        ("detach", "a dry run counts in this process"),
        ("force", "a dry run may go beside any other"),
        ("rate", "a dry run counts in this process, as fast as it can"),
    ):
        if options[name] and not applies:
            raise UsageError(f"--{name} goes with --apply: {why}")
