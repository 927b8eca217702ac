"""Starting a run: the checks, the count and the question before it, and following it afterwards."""

import sys
from pathlib import Path

from backfill_tasks.cli import count, render
from backfill_tasks.cli.context import COMPLETE, Session, say
from backfill_tasks.cli.fleet_rate import say_the_new_rate
from backfill_tasks.cli.run_options import RunOptions
from backfill_tasks.cli.showing import follow_to_the_end, say_whether_workers_are_online, show
from backfill_tasks.cli.signals import Stopped, signals
from backfill_tasks.engine import checkpoint, schema
from backfill_tasks.engine.model import Run, RunId
from backfill_tasks.errors import CheckpointError


def start(session: Session, run_options: RunOptions) -> int:
    """Count, or start a run and follow it; return the exit status."""
    client, order = session.client, run_options.order
    apply = run_options.mode == "apply"
    if apply:
        client.require_redis()
        if run_options.state_file is not None:
            checkpoint.require_writable(run_options.state_file)
    client.planner.check(order, apply=apply)
    if not apply:
        return count.dry_run(session, run_options, client.planner.lanes(order))
    for each in client.planner.overlaps(order):
        say(f"Note: {each}; {each.way_out}.")
    lanes = client.planner.lanes(order)
    expected = None
    if not run_options.yes and sys.stdin.isatty() and sys.stderr.isatty():
        expected = count.ask(client, order, lanes)
    elif not order.single_batch:
        expected = count.expected(client, order, lanes)
    if client.migrate():
        say(f"The ledger was brought to version {schema.latest()} (schema backfill).")
    say_the_new_rate(order.rate, client.require_room(order.rate, lanes=len(lanes)))
    say_whether_workers_are_online()
    with signals() as stopped:
        run = client.submit(order, lanes, expected=expected)
        say(f"Run {run} started in {render.lanes_in_words(len(lanes))}: {session.parts.address}.")
        status = after_seeding(session, run_options, run, stopped)
    if run_options.canary and not run_options.detach:
        _report_canary(session, run)
    return status


def after_seeding(session: Session, run_options: RunOptions, run: RunId, stopped: Stopped) -> int:
    """Follow the run, or detach with --detach, and return the exit status."""
    keep = _Checkpoints(run_options.state_file)
    if not run_options.detach:
        return follow_to_the_end(session, run, stopped=stopped, as_json=run_options.as_json, on_reading=keep)
    seeded = session.client.run(run)
    keep(seeded)
    if run_options.state_file is not None:
        say(f"{run_options.state_file} holds the run's start only: nobody follows a detached run to write it again.")
    if run_options.as_json:
        show(session, session.client.observer.snapshot(seeded), as_json=True)
    say(f"`backfill watch {run}` follows it.")
    return COMPLETE


def _report_canary(session: Session, run: RunId) -> None:
    """Report what the canary left in the database and how to go on."""
    read = session.client.run(run)
    backfill = session.parts.backfills[read.parameters.backfill]
    found = session.client.verify(run)
    say()
    say(render.verification(backfill, read, found))
    if not read.counts.get("read"):
        say(f"This canary read no {backfill.items}, so it shows nothing of what the run would do.")
        if read.state == "complete":
            say(f"It has walked everything: there is nothing to do for {backfill.name}.")
            return
        say(f"To look further: backfill run {backfill.name} --resume --single-batch")
        say(f"To end it:       backfill cancel {run}")
        return
    if not found.clean:
        say("This was the canary, and it was not clean: look into it before you go on.")
        say(f"To go on all the same: backfill resume {run}")
        say(f"To end it:             backfill cancel {run}")
        return
    say(f"This was the canary. If all looks well: backfill resume {run}")
    say(f"If it does not:                       backfill cancel {run}")


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
                say(f"Note: {error}. The run goes on; its place is in Redis and in the ledger.")
            self._complained = True
