"""Starting a run: the checks, the count and the question before it, and following it afterwards."""

import sys
from pathlib import Path

from backfill_tasks.cli import count
from backfill_tasks.cli.context import COMPLETE, CommandContext, say
from backfill_tasks.cli.fleet_rate import say_the_new_rate
from backfill_tasks.cli.render.lanes import lanes_in_words
from backfill_tasks.cli.render.verification import verification
from backfill_tasks.cli.run_options import RunOptions
from backfill_tasks.cli.showing import follow_to_the_end, say_whether_workers_are_online, show
from backfill_tasks.cli.signals import Stopped, signals
from backfill_tasks.engine import checkpoint, schema
from backfill_tasks.engine.model import Run, RunId
from backfill_tasks.errors import CheckpointError


def start(context: CommandContext, run_options: RunOptions) -> int:
    """Count, or start a run and follow it; return the exit status."""
    client, order = context.client, run_options.order
    apply = run_options.mode == "apply"
    if apply:
        client.require_redis()
        if run_options.state_file is not None:
            checkpoint.require_writable(run_options.state_file)
    client.planner.check(order, apply=apply)
    if not apply:
        return count.dry_run(context, run_options, client.planner.lanes(order))
    for each in client.planner.overlaps(order):
        say(f"Note: {each}; {each.way_out}.")
    lanes = client.planner.lanes(order)
    expected = None
    if not run_options.yes and sys.stdin.isatty() and sys.stderr.isatty():
        expected = count.ask(client, order, lanes)
    elif not order.single_batch:
        expected = count.expected(client, order, lanes)
    if client.migrate():
        say(f"The ledger (schema backfill) is now at version {schema.latest()}.")
    say_the_new_rate(order.rate, client.require_room(order.rate, lanes=len(lanes)))
    say_whether_workers_are_online()
    with signals() as stopped:
        run = client.submit(order, lanes, expected=expected)
        say(f"Run {run} started in {lanes_in_words(len(lanes))}: {context.parts.address}.")
        status = after_seeding(context, run_options, run, stopped)
    if run_options.canary and not run_options.detach:
        _report_canary(context, run)
    return status


def after_seeding(context: CommandContext, run_options: RunOptions, run: RunId, stopped: Stopped) -> int:
    """Follow the run, or detach with --detach, and return the exit status."""
    keep = _Checkpoints(run_options.state_file)
    if not run_options.detach:
        return follow_to_the_end(context, run, stopped=stopped, as_json=run_options.as_json, on_reading=keep)
    seeded = context.client.run(run)
    keep(seeded)
    if run_options.state_file is not None:
        say(f"{run_options.state_file} contains only the run's start, because a detached run doesn't update it.")
    if run_options.as_json:
        show(context, context.client.observer.snapshot(seeded), as_json=True)
    say(f"To follow it: backfill watch {run}")
    return COMPLETE


def _report_canary(context: CommandContext, run: RunId) -> None:
    """Report what the canary left in the database and how to go on."""
    read = context.client.run(run)
    backfill = context.parts.backfills[read.parameters.backfill]
    found = context.client.verify(run)
    say()
    say(verification(backfill, read, found))
    if not read.counts.get("read"):
        say(f"The canary read no {backfill.items}, so it doesn't show what the run would do.")
        if read.state == "complete":
            say(f"It has passed the whole table: {backfill.name} has nothing to do.")
            return
        say(f"To try the next pages: backfill run {backfill.name} --resume --single-batch")
        say(f"To end the run:        backfill cancel {run}")
        return
    if found.clean:
        say("The canary is clean, and the run is paused.")
        say(f"To continue it: backfill resume {run}")
        say(f"To end it:      backfill cancel {run}")
        return
    say("The canary is NOT clean, and the run is paused. Find the cause before you continue it.")
    say(f"To continue it anyway: backfill resume {run}")
    say(f"To end it:             backfill cancel {run}")


class _Checkpoints:
    """Writes a run's checkpoint file whenever the run has moved. A write error is reported once and stops nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written: tuple[int, str] | None = None
        self._complained = False

    def __call__(self, run: Run) -> None:
        place = (run.pages, run.state)
        if self._path is None or place == self._written:
            return
        try:
            checkpoint.write(self._path, run)
            self._written = place
        except CheckpointError as error:
            if not self._complained:
                say(f"Note: {error}. The run continues; its position is in Redis and in the ledger.")
            self._complained = True
