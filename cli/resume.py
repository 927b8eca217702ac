"""Resuming a run: the one in a checkpoint file (ours or the old script's), or the newest unfinished one."""

from dataclasses import replace
from typing import Any

from backfill_tasks.cli.context import CommandContext, say
from backfill_tasks.cli.fleet_rate import say_the_new_rate
from backfill_tasks.cli.run_options import OPTIONS, RunOptions, flag_of
from backfill_tasks.cli.showing import say_what_redis_had_lost, say_whether_workers_are_online
from backfill_tasks.cli.signals import signals
from backfill_tasks.cli.start import after_seeding, start
from backfill_tasks.engine import checkpoint, states
from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.states import UNFINISHED
from backfill_tasks.errors import CheckpointError, UsageError
from backfill_tasks.options import RUN_OPTIONS, Parameters, check
from backfill_tasks.registry import DEFAULT, KINDS


def resume(context: CommandContext, run_options: RunOptions) -> int:
    """Resume a run, or start one from a checkpoint the ledger doesn't know, and return the exit status."""
    found = checkpoint.read(run_options.state_file) if run_options.state_file else None
    match found:
        case checkpoint.OldCheckpoint():
            _refuse_another(run_options, "the old script's checkpoint", DEFAULT)
            place = "from the beginning" if found.cursor is None else f"after lead {found.cursor}"
            say(f"Continuing from the old script's checkpoint, {place}, with job {found.ordinal + 1}.")
            parameters = replace(run_options.order.parameters, cursor=found.cursor)
            order = replace(run_options.order, parameters=parameters, ordinal=found.ordinal)
            return start(context, replace(run_options, order=order))
        case checkpoint.Checkpoint():
            found = replace(found, parameters=_checked_parameters(context, found, run_options))
            _refuse_another(run_options, f"the checkpoint of run {found.run}", found.parameters.backfill)
            run = found.run if context.client.knows(found.run) else None
        case None:
            if run_options.state_file is not None:
                say(f"There is no {run_options.state_file}: resuming the newest unfinished run.")
            run = context.client.newest(
                UNFINISHED, run_options.order.parameters.backfill if run_options.named else None
            )
    if run is None and isinstance(found, checkpoint.Checkpoint):
        _refuse_differences(run_options, found.run, found.parameters.as_json())
        if not found.left:
            raise UsageError(f"run {found.run} has finished all its lanes: there is nothing to resume")
        say(f"Run {found.run} isn't in the ledger: a new run continues from its checkpoint.")
        order = replace(run_options.order, parameters=found.parameters, ordinal=found.ordinal, stretches=found.left)
        return start(context, replace(run_options, mode="apply", order=order))
    if run is None:
        of = f" of {run_options.order.parameters.backfill}" if run_options.named else ""
        file = "" if run_options.state_file else ". To continue from the script's file, add --state-file FILE"
        raise UsageError(f"there is no unfinished run{of} to resume: `backfill runs` lists all runs{file}")
    return _go_on(context, run_options, run)


def _go_on(context: CommandContext, run_options: RunOptions, run: RunId) -> int:
    context.client.require_redis()
    context.client.require_ledger(to_write=True)
    if run_options.state_file is not None:
        checkpoint.require_writable(run_options.state_file)
    client, rate = context.client, run_options.order.rate
    own = client.run(run)
    states.require(run, own.state, "resume")  # before the rate is set
    client.require_host(own)
    options = context.parts.backfills[own.parameters.backfill].with_defaults(own.parameters.options)
    _refuse_differences(run_options, run, replace(own.parameters, options=options).as_json())
    say_the_new_rate(rate, client.require_room(rate, lanes=len(own.lanes)))
    say_whether_workers_are_online(pages=own.pages)
    with signals() as stopped:
        say_what_redis_had_lost(client.go_on(run, single_batch=run_options.order.single_batch))
        say(f"Run {run} is resumed: {context.parts.address}.")
        return after_seeding(context, run_options, run, stopped)


def _refuse_another(run_options: RunOptions, what: str, backfill: str) -> None:
    """Raise UsageError if the command line names another backfill than the run's."""
    if run_options.named and run_options.order.parameters.backfill != backfill:
        raise UsageError(
            f"{what} belongs to {backfill}, not to {run_options.order.parameters.backfill}: remove the name"
        )


def _checked_parameters(context: CommandContext, found: checkpoint.Checkpoint, run_options: RunOptions) -> Parameters:
    """Return a checkpoint's parameters, with defaults for options that are newer than it.

    Raises:
        CheckpointError: no command line could have produced them.
    """
    parameters = found.parameters
    invalid = f"{run_options.state_file} is not a valid checkpoint"
    backfill = context.parts.backfills.get(parameters.backfill)
    if backfill is None:
        raise CheckpointError(f"{invalid}: there is no backfill {parameters.backfill!r}")
    try:
        return replace(parameters, options=check(backfill.options, parameters.options))
    except ValueError as error:
        raise CheckpointError(f"{invalid}: {error}") from None


def _refuse_differences(run_options: RunOptions, run: RunId, own: dict[str, Any]) -> None:
    """Raise UsageError if the command line changes a run's parameters; it may repeat them."""
    asked = run_options.order.parameters.as_json()
    has_jobs = KINDS[own["backfill"]].jobs
    for name in sorted(run_options.given):
        if name not in own or (name in RUN_OPTIONS and RUN_OPTIONS[name].needs_jobs and not has_jobs):
            raise UsageError(f"run {run} belongs to {own['backfill']}, which has no {flag_of(name)}: remove it")
        if asked[name] != own[name]:
            other = f"`backfill tune {run}` changes it" if OPTIONS[name].tunable else "start a new run"
            raise UsageError(
                f"run {run} has {flag_of(name)} {_shown(own[name])}, not {_shown(asked[name])}:"
                f" remove {flag_of(name)}, or {other}"
            )


def _shown(value: Any) -> str:
    match value:
        case None:
            return "(none)"
        case bool():
            return "on" if value else "off"
        case float():
            return f"{value:g}"
        case list():
            return ",".join(value)
    return str(value)
