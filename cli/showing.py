"""A run as a command shows it: once, or followed to its end."""

import json
from collections.abc import Callable, Collection

import click

from backfill_tasks.engine import ledger
from backfill_tasks.engine.model import Run, RunId
from cli import render
from cli.context import COMPLETE, FAILED, NOT_COMPLETE, QUARANTINED, Session, say
from cli.diagnosis import Observed, Observer, diagnosed, observe
from cli.signals import Stopped
from cli.watch import Detached, follow, patiently

#: How many quarantined items are listed with their errors.
_MOST_QUARANTINED = 10


def exit_status(run: Run) -> int:
    """What a command that has seen a run to its end exits with."""
    if run.state == "complete":
        return QUARANTINED if run.counts.get("quarantined") else COMPLETE
    return FAILED if run.state == "failed" else NOT_COMPLETE


def show(session: Session, run: Run, *, as_json: bool) -> None:
    """Print a run's summary, or its JSON object, on standard output."""
    backfill = session.parts.backfills[run.parameters.backfill]
    observed = observe(session, run) if run.mode == "apply" else Observed()
    (run,) = diagnosed(session, [run])
    if as_json:
        content = run.as_json(render.classes(backfill, run), backfill.jobs)
        content["host"] = observed.outcome and observed.outcome.as_json(run.jobs_to_come(backfill.jobs))
        content["small_pages"] = observed.small
        click.echo(json.dumps(content, ensure_ascii=False))
        return
    quarantined = []
    if run.counts.get("quarantined"):
        with session.parts.engine.begin() as connection:
            quarantined = ledger.quarantined(connection, run.id, most=_MOST_QUARANTINED)
    click.echo(render.summary(backfill, run, quarantined=quarantined, found=observed.outcome, small=observed.small))


def follow_to_the_end(
    session: Session,
    run: RunId,
    *,
    stopped: Stopped,
    as_json: bool,
    on_reading: Callable[[Run], None] = lambda _: None,
) -> int:
    """Follow a run, show how it ended, and answer the exit status."""
    parts = session.parts
    try:
        seeded = patiently(lambda: parts.runs.read(run), stopped)
        backfill = parts.backfills[seeded.parameters.backfill]
        asides = Observer(session, seeded)
        ended = follow(
            backfill,
            lambda: parts.runs.read(run),
            stopped,
            each=on_reading,
            beside=asides.read,
            diagnosed=asides.diagnosed,
        )
        patiently(lambda: show(session, ended, as_json=as_json), stopped)
    except Detached:
        say("Detached: the run goes on.")
        say(f"  backfill watch {run}    looks again")
        say(f"  backfill cancel {run}   ends it")
        if as_json:
            show(session, parts.runs.read(run), as_json=True)
        return NOT_COMPLETE
    return exit_status(ended)


def say_whether_workers_are_online(*, pages: int = 0) -> None:
    """Say so, and what to do, if nobody is there to do the pages of a run that has done so many."""
    from backfill_tasks.worker.fleet import is_any_online  # noqa: PLC0415  Celery takes half a second to import

    if not is_any_online():
        say("No worker is online. Start one: celery -A backfill_tasks worker")
        say(f"The run {'goes on' if pages else 'starts'} when one comes.")


def say_what_redis_had_lost(lanes: Collection[int]) -> None:
    """Say how many lanes have their place from the ledger, if any have."""
    if lanes:
        say(f"Redis had lost the cursor of {render.lanes_in_words(len(lanes))}: taken from the ledger.")
