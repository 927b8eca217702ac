"""Commands that steer a run: pause, resume, tune, retry, cancel; and its events."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from backfill_tasks.engine import ledger
from backfill_tasks.engine.model import TUNABLE, RunId
from backfill_tasks.engine.rate import Rate
from backfill_tasks.errors import UsageError
from backfill_tasks.escaping import one_line
from cli import render
from cli.commands import say_what_redis_had_lost, say_whether_workers_are_online
from cli.pace import TEN_MINUTES_MS, PageSize, is_given, pace_options, refuse_job_options
from cli.rate import prepare_rate, set_rate
from cli.session import COMPLETE, QUARANTINED, Session, say

#: Items that fail again are shown one by one, up to so many.
_MOST_SHOWN = 20

#: How many characters of a reason are shown, and of all that the database says where that is asked for.
_LONGEST_REASON, _LONGEST_WHOLE_REASON = 400, 10_000


@click.command()
@click.argument("run", required=False)
@click.option("--all", "every", is_flag=True, help="Every run that is running.")
@click.pass_obj
def pause(session: Session, run: str | None, *, every: bool) -> None:
    """Let every lane of a run stop after the page that it is at.

    What is done stays, what waits in the host's queue is the host's. `backfill resume`
    goes on, on any worker, any day.

    \b
    Examples:
      backfill pause 261124-091500-a1b2
      backfill pause --all
    """
    if every == (run is not None):
        raise UsageError("name one run, or give --all")
    for each in _running(session) if every else [session.run(run).id]:
        if session.parts.runs.pause(each, "paused by command"):
            click.echo(f"Run {each} is paused. Go on with: backfill resume {each}")
        else:
            click.echo(f"Run {each} was {session.parts.runs.read(each).state} already.")


def _running(session: Session) -> Sequence[RunId]:
    session.require_ledger()
    with session.parts.engine.begin() as connection:
        found = ledger.running(connection)
    if not found:
        click.echo("No run is running.")
    return found


@click.command()
@click.argument("run")
@click.pass_obj
def resume(session: Session, run: str) -> None:
    """Go on with a run that is paused or has failed, from where each lane stands.

    \b
    Example:
      backfill resume 261124-091500-a1b2
    """
    session.require_ledger(to_write=True)
    found = session.run(run)
    session.require_host(found)
    session.require_redis()
    prepare_rate(session, None, lanes=len(found.lanes))
    say_what_redis_had_lost(session.parts.runs.resume(found.id))
    click.echo(f"Run {found.id} goes on. Look with: backfill watch {found.id}")
    say_whether_workers_are_online(pages=found.pages)


@click.command()
@click.argument("run")
@click.pass_obj
def cancel(session: Session, run: str) -> None:
    """End a run for good, after the pages that are at work; what it did stays.

    \b
    Example:
      backfill cancel 261124-091500-a1b2
    """
    found = session.run(run)
    if not session.parts.runs.cancel(found.id):
        click.echo(f"Run {found.id} was {found.state} already.")
        return
    click.echo(f"Run {found.id} is cancelled. What it did stays.")


@click.command()
@click.argument("run")
@click.option("--limit", type=PageSize(), metavar="N", help="Page size, in leads.")
@click.option(
    "--page-delay-ms", type=click.IntRange(0, TEN_MINUTES_MS), metavar="N", help="Pause between the pages of a lane."
)
@pace_options
@click.option("--rate", metavar="RATE", help="The rate of all workers together: 20/s, 600/m, none.")
@click.pass_context
def tune(context: click.Context, /, run: str, **options: Any) -> None:
    """Change a run's pace while it goes on; its next pages go by it.

    \b
    Examples:
      backfill tune 261124-091500-a1b2 --jobs-per-minute 5
      backfill tune 261124-091500-a1b2 --max-pending none --limit 200
    """
    session: Session = context.obj
    changes = {name: options[name] for name in TUNABLE if is_given(context, name)}
    rate = None if options["rate"] is None else Rate.parse(options["rate"])
    if not changes and rate is None:
        raise UsageError("nothing is to be changed: see `backfill tune --help` for what may be")
    found = session.run(run)
    refuse_job_options(context, session.parts.backfills[found.parameters.backfill])
    changed = session.parts.runs.tune(found.id, changes)
    if rate is not None:
        session.require_redis()
        set_rate(session, rate)
    for name, (old, new) in changed.items():
        click.echo(f"Run {found.id}: {name.replace('_', ' ')} {_value(old)} -> {_value(new)}")
    if changes and not changed:
        click.echo(f"Run {found.id} has these already.")


def _value(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


@click.command()
@click.argument("run")
@click.option("--verbose", is_flag=True, help="Print all that the database says, values of the lead's row included.")
@click.pass_context
def retry(context: click.Context, run: str, *, verbose: bool) -> None:
    """Try the quarantined leads of a run again, each for itself; those that go through are the run's.

    Exits with 3 if any is left in quarantine.

    \b
    Examples:
      backfill retry 261124-091500-a1b2
      backfill retry 261124-091500-a1b2 --verbose
    """
    session: Session = context.obj
    found = session.run(run)
    session.require_host(found)
    outcomes: Counter[str] = Counter()
    for each in session.parts.retrier.retry(found.id):
        outcomes[each.outcome] += 1
        if each.outcome == "held":
            say(f"Held at {one_line(each.item)}: {one_line(each.reason)}. Later: backfill retry {found.id}")
        elif each.outcome == "failed again" and outcomes[each.outcome] <= _MOST_SHOWN:
            why, most = (each.whole_reason, _LONGEST_WHOLE_REASON) if verbose else (each.reason, _LONGEST_REASON)
            click.echo(render.with_reason(each.item, f"failed again: {why}", indent=2, most=most))
    with session.parts.engine.begin() as connection:
        left = ledger.count_quarantined(connection, found.id)
    done, failed = outcomes["went through"], outcomes["failed again"]
    click.echo(f"{done + failed:,} tried again, {done:,} went through, {left:,} left in quarantine.")
    context.exit(QUARANTINED if left else COMPLETE)


@click.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_obj
def events(session: Session, run: str | None, *, as_json: bool) -> None:
    """List what happened to a run (default: the newest): when, what, and who did it.

    \b
    Example:
      backfill events 261124-091500-a1b2
    """
    found = session.run(run)
    with session.parts.engine.begin() as connection:
        happened = ledger.events(connection, found.id)
    if as_json:
        content = [
            {"at": each.at.isoformat(), "event": each.name, "detail": dict(each.detail), "by": each.who}
            for each in happened
        ]
        click.echo(json.dumps({"run_id": found.id, "events": content}, ensure_ascii=False))
        return
    click.echo(f"Events of run {found.id}, in UTC")
    click.echo()
    for each in happened:
        for line in render.event(each):
            click.echo(line)
