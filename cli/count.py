"""Counting what a run would do: the dry run, and before a run starts how much there will be, and how long it takes."""

import time
from dataclasses import replace

import click

from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.dry_run import DryRun
from backfill_tasks.engine.model import Lane, Run
from backfill_tasks.engine.runs import new_id
from cli import render
from cli.context import NOT_COMPLETE, Session, say
from cli.run_options import RunOptions
from cli.showing import exit_status, show
from cli.signals import signals
from cli.watch import Detached, follow

#: How often a count is looked at, and after how many seconds it is spoken of.
_LOOK_SECONDS, _SILENT_SECONDS = 0.02, 2.0

#: What a page's leads take where nothing has been measured yet, for the expected time: leads a second in one lane.
_USUAL_RATE = 10_000


def dry_run(session: Session, backfill: Backfill, run_options: RunOptions, lanes: tuple[Lane, ...]) -> int:
    """Count, show what came of it, and answer the exit status."""
    if run_options.state_file is not None:
        say("A dry run writes no checkpoint: --state-file is ignored.")
    try:
        counted = _count(session, backfill, run_options, lanes)
    except Detached:
        say("Stopped: nothing was changed.")
        return NOT_COMPLETE
    show(session, counted, as_json=run_options.as_json)
    return exit_status(counted)


def expected(session: Session, backfill: Backfill, run_options: RunOptions, lanes: tuple[Lane, ...]) -> int:
    """How many leads will be read, so that it can be told at any time how much is left."""
    counting = _counting(session, backfill, _without_pauses(run_options), lanes)
    with signals() as stopped, counting.walking():
        said_at = time.monotonic()
        while counting.read().state == "running":
            if time.monotonic() - said_at > _SILENT_SECONDS:
                said_at = float("inf")
                say(f"Counting the {backfill.items} first. Ctrl-C: nothing is started.")
            if stopped.wait(_LOOK_SECONDS):
                raise click.Abort
    return counting.read().counts.get("read", 0)


def ask(session: Session, backfill: Backfill, run_options: RunOptions, lanes: tuple[Lane, ...]) -> int:
    """Show what will be done, and ask; answers how many leads will be read."""
    try:
        counted = _count(session, backfill, _without_pauses(run_options), lanes)
    except Detached:
        raise click.Abort from None
    say(f"This will be done in {session.parts.address}:")
    say()
    for line in render.counts(backfill, counted):
        say(line)
    say(f"  {'pages':<16}{counted.pages:>11,}   in {render.lanes_in_words(len(lanes))}")
    say(f"  {'expected time':<16}{render.duration(_expected_seconds(session, run_options, counted)):>11}")
    for line in render.jobs(backfill, counted):
        say(line)
    say()
    click.confirm("Start?", abort=True, err=True)
    return counted.counts.get("read", 0)


def _count(session: Session, backfill: Backfill, run_options: RunOptions, lanes: tuple[Lane, ...]) -> Run:
    """Walk the dry run with progress."""
    counting = _counting(session, backfill, run_options, lanes)
    with signals() as stopped, counting.walking():
        return follow(backfill, counting.read, stopped)


def _counting(session: Session, backfill: Backfill, run_options: RunOptions, lanes: tuple[Lane, ...]) -> DryRun:
    return DryRun(
        engine=session.parts.engine,
        backfill=backfill,
        parameters=run_options.parameters,
        run=new_id(),
        lanes=lanes,
        statement_ms=session.settings.statement_timeout_ms,
        single_batch=run_options.single_batch,
    )


def _without_pauses(run_options: RunOptions) -> RunOptions:
    """To count is no work from which anybody must be spared."""
    return replace(run_options, parameters=replace(run_options.parameters, page_delay_ms=0))


def _expected_seconds(session: Session, run_options: RunOptions, counted: Run) -> float:
    """About how long the run will take: at the last run's rate if there is one, and no faster than its pauses allow."""
    last = session.newest(("complete",), run_options.parameters.backfill)
    rate = session.parts.runs.read(last).leads_per_second if last else 0.0
    lanes = max(1, len(counted.lanes))
    working = counted.counts.get("read", 0) / (rate or _USUAL_RATE)
    pausing = counted.pages / lanes * run_options.parameters.page_delay_ms / 1000
    pace, jobs = (
        run_options.parameters.pace,
        counted.jobs(session.parts.backfills[run_options.parameters.backfill].jobs),
    )
    # Bounded by what may be pending, a run lasts as long as the host takes for its jobs: so many at each drain at best.
    due = 0.0
    if pace.max_pending is not None:
        due = (session.settings.drain_seconds or 0.0) * jobs / pace.max_pending
        if pace.jobs_per_minute is not None:
            due = max(due, 60 * jobs / pace.jobs_per_minute)
    return max(working + pausing, due)
