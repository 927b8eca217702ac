"""The dry run, and the count before a run starts: how many items there are and how long they take."""

import time
from dataclasses import replace

import click

from backfill_tasks.cli.context import NOT_COMPLETE, CommandContext, say
from backfill_tasks.cli.render.plan import plan_lines
from backfill_tasks.cli.run_options import RunOptions
from backfill_tasks.cli.showing import exit_status, show
from backfill_tasks.cli.signals import signals
from backfill_tasks.cli.watch import Detached, follow_count
from backfill_tasks.client import Client
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Lane, Run
from backfill_tasks.planning import Order

#: Seconds between two readings of a count, and seconds until the operator is told of it.
_LOOK_SECONDS, _SILENT_SECONDS = 0.02, 2.0


def dry_run(context: CommandContext, run_options: RunOptions, lanes: tuple[Lane, ...]) -> int:
    """Count what a run would do, show the result and return the exit status."""
    if run_options.state_file is not None:
        say("A dry run writes no checkpoint: --state-file is ignored.")
    backfill = context.parts.backfills[run_options.order.parameters.backfill]
    if run_options.forecast_cost is not None:
        context.client.require_cost_forecast(backfill.name, run_options.forecast_cost)
    try:
        counted = _count(context.client, backfill, run_options.order, lanes)
    except Detached:
        say("Stopped before all pages were counted. Nothing was changed.")
        return NOT_COMPLETE
    asked = run_options.forecast_cost
    cost = None if asked is None else context.client.forecast_cost(counted, asked)
    seen = context.client.observer.snapshot(counted)
    show(context, seen, as_json=run_options.as_json, cost=cost)
    return exit_status(seen)


def expected(client: Client, order: Order, lanes: tuple[Lane, ...]) -> int:
    """Return how many items the run will read, so that it can report how many are left."""
    backfill = client.parts.backfills[order.parameters.backfill]
    with signals() as stopped, client.planner.counting(_without_pauses(order), lanes) as counting:
        said_at = time.monotonic()
        while counting.read().state == "running":
            if time.monotonic() - said_at > _SILENT_SECONDS:
                said_at = float("inf")
                say(f"Counting the {backfill.items} first. Ctrl-C stops without starting a run.")
            if stopped.wait(_LOOK_SECONDS):
                raise click.Abort
    return counting.read().counts.get("read", 0)


def ask(client: Client, order: Order, lanes: tuple[Lane, ...]) -> int:
    """Show what the run will do and ask for confirmation; return how many items it will read."""
    backfill = client.parts.backfills[order.parameters.backfill]
    try:
        counted = _count(client, backfill, _without_pauses(order), lanes)
    except Detached:
        raise click.Abort from None
    plan = client.planner.planned(replace(counted, parameters=order.parameters))
    for line in plan_lines(backfill, plan, str(client.parts.address)):
        say(line)
    click.confirm("Start?", abort=True, err=True)
    return counted.counts.get("read", 0)


def _count(client: Client, backfill: Backfill, order: Order, lanes: tuple[Lane, ...]) -> Run:
    """Count an order's items, showing progress, and return the finished count."""
    with signals() as stopped, client.planner.counting(order, lanes) as counting:
        return follow_count(backfill, counting.read, stopped)


def _without_pauses(order: Order) -> Order:
    """Return the order without delays between pages: a count writes nothing that could load the host."""
    return replace(order, parameters=replace(order.parameters, page_delay_ms=0))
