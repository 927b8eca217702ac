"""The options of `backfill run`, parsed and checked against each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from backfill_tasks.cli.flags import given
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Mode
from backfill_tasks.engine.rate import Rate
from backfill_tasks.errors import UsageError
from backfill_tasks.options import RUN_OPTIONS, Option, OptionError, Parameters, resolve
from backfill_tasks.planning import Order
from backfill_tasks.registry import DEFAULT, KINDS
from backfill_tasks.settings import Settings

#: Every backfill's own options, by name.
OWN_OPTIONS = KINDS.options()

#: All options that are parameters of a run, by name.
OPTIONS = {**RUN_OPTIONS, **OWN_OPTIONS}


@dataclass(frozen=True)
class RunOptions:
    """The parsed command line of `backfill run`.

    Attributes:
        mode: dry run or apply.
        order: the run to start.
        named: whether the command line names the backfill.
        given: the names of the parameters given on the command line.
        canary: do one page, then report what it did.
        state_file: where to write the checkpoint file, if anywhere.
        forecast_cost: the scorer whose cost a dry run forecasts, if any.
        yes, detach, as_json: the flags of the same names.
    """

    mode: Mode
    order: Order
    named: bool
    given: frozenset[str]
    canary: bool
    state_file: Path | None
    forecast_cost: str | None
    yes: bool
    detach: bool
    as_json: bool


def parse(click_context: click.Context, options: dict[str, Any], settings: Settings) -> RunOptions:
    """Parse the options of `backfill run`.

    Raises:
        UsageError: options contradict each other or belong to another backfill.
    """
    _refuse_contradictions(options)
    kind = KINDS.choose(options["name"] or DEFAULT)
    asked = given(click_context, OPTIONS.values())
    if options["single_batch"]:
        if asked.get("lanes", 1) > 1:
            raise UsageError("--single-batch does one page in one lane: remove --lanes")
        asked["lanes"] = 1
    order = Order(
        parameters_of(kind, asked, settings),
        single_batch=options["single_batch"] or options["canary"],
        force=options["force"],
        # A lane that we choose spans at least one page; lanes that were asked for may span a single row.
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
        forecast_cost=options["forecast_cost"],
        yes=options["yes"],
        detach=options["detach"],
        as_json=options["as_json"],
    )


def parameters_of(kind: Backfill, asked: dict[str, Any], settings: Settings) -> Parameters:
    """Return a new run's parameters.

    Raises:
        UsageError: an option belongs to another backfill, or two options say the same thing.
    """
    own = {each.name for each in kind.options}
    for name in asked:
        if name not in RUN_OPTIONS and name not in own:
            raise UsageError(f"{kind.name} has no {OPTIONS[name].on_command_line}: remove it")
    try:
        return resolve(kind, asked=asked, defaults=settings.defaults_with(kind.options))
    except OptionError as error:
        raise UsageError(in_flags(error)) from None


def in_flags(error: OptionError) -> str:
    """Return the text of an option's error, with flags in place of names."""
    why = error.why
    for each in OPTIONS.values():
        why = why.replace(each.name, each.on_command_line) if "_" in each.name else why
    return f"{error.option.on_command_line}: {why}"


def flag_of(name: str) -> str:
    """Return an option's flag."""
    found: Option = OPTIONS[name]
    return found.on_command_line


def _refuse_contradictions(options: dict[str, Any]) -> None:
    for one, other in (("dry_run", "apply"), ("run_until_done", "single_batch")):
        if options[one] and options[other]:
            raise UsageError(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} contradict each other")
    if options["dry_run"] and options["resume"] and options["cursor"] is None:
        raise UsageError("--resume continues a run that writes: remove --dry-run")
    if options["canary"] and (options["single_batch"] or options["resume"] or not options["apply"]):
        raise UsageError(
            "--canary does the first page of a new run: use it with --apply, without --single-batch and --resume"
        )
    applies = options["apply"] or options["resume"]
    if options["forecast_cost"] and applies:
        raise UsageError(
            "--forecast-cost belongs to a dry run: remove --apply, or score with `backfill work --max-spend`"
        )
    for name, why in (
        ("detach", "a dry run counts in this process"),
        ("force", "a dry run conflicts with no other run"),
        ("rate", "a dry run counts in this process, as fast as it can"),
    ):
        if options[name] and not applies:
            raise UsageError(f"--{name} needs --apply: {why}")
