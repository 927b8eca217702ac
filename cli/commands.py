"""All commands but `run`: small, each a question or an order."""

import json
import os
from collections.abc import Callable, Collection
from textwrap import fill, indent

import click

from backfill_tasks.engine import ledger, schema
from backfill_tasks.engine.database import parse_url
from backfill_tasks.engine.model import Run, RunId
from backfill_tasks.engine.replica import Server
from backfill_tasks.engine.verification import Verification, Verifier
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.settings import VARIABLES, environment, refuse_unknown, value
from cli import render, replica
from cli.beside import Aside, Asides, diagnosed, look
from cli.follow import Detached, follow, patiently
from cli.session import COMPLETE, FAILED, NOT_COMPLETE, QUARANTINED, WRONG_USAGE, Session, say
from cli.signals import Stopped, signals

#: How many quarantined items are listed with their errors.
_MOST_QUARANTINED = 10

#: How long `verify --replica` waits for a standby that is behind.
_CATCH_UP_SECONDS = 30.0

_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


def exit_status(run: Run) -> int:
    """What a command that has seen a run to its end exits with."""
    if run.state == "complete":
        return QUARANTINED if run.counts.get("quarantined") else COMPLETE
    return FAILED if run.state == "failed" else NOT_COMPLETE


def show(session: Session, run: Run, *, as_json: bool) -> None:
    """Print a run's summary, or its JSON object, on standard output."""
    backfill = session.parts.backfills[run.parameters.backfill]
    aside = look(session, run) if run.mode == "apply" else Aside()
    (run,) = diagnosed(session, [run])
    if as_json:
        content = run.as_json(render.classes(backfill, run), backfill.jobs)
        content["host"] = aside.outcome and aside.outcome.as_json(run.jobs_to_come(backfill.jobs))
        content["small_pages"] = aside.small
        click.echo(json.dumps(content, ensure_ascii=False))
        return
    quarantined = []
    if run.counts.get("quarantined"):
        with session.parts.engine.begin() as connection:
            quarantined = ledger.quarantined(connection, run.id, most=_MOST_QUARANTINED)
    click.echo(render.summary(backfill, run, quarantined=quarantined, found=aside.outcome, small=aside.small))


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
        asides = Asides(session, seeded)
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


@click.command()
@click.option("--sql", is_flag=True, help="Print the SQL for a DBA instead of running it.")
@click.pass_obj
def init(session: Session, *, sql: bool) -> None:
    """Create the ledger: schema "backfill", tables of its own, nothing of the host's.

    Safe to repeat. `run --apply` does it by itself where its role may.

    \b
    Examples:
      backfill init
      backfill init --sql | psql "$ADMIN_URL"
    """
    if sql:
        click.echo(schema.as_sql(), nl=False)
        return
    with session.parts.engine.begin() as connection:
        applied = schema.migrate(connection)
    state = f"brought to version {schema.latest()}" if applied else f"is there already, at version {schema.latest()}"
    click.echo(f"The ledger (schema backfill in {session.parts.address}) {state}.")


@click.command()
@click.pass_context
def config(context: click.Context) -> None:
    """List every setting: its value, where it comes from, what it means.

    Settings come from the environment, and from a file .env in the working directory.
    Exits with 2 if any can't be read.

    \b
    Example:
      backfill config
    """
    variables = environment()
    wrong = 0
    for variable in VARIABLES:
        given = variables.get(variable.name, "").strip()
        source = "environment" if os.environ.get(variable.name, "").strip() else ".env" if given else "default"
        click.echo(f"{variable.name} = {variable.shown(given)}   ({source})")
        click.echo(indent(fill(variable.meaning, render.WIDTH - 4), "    "))
        try:
            value(variable, variables)
            if variable.name == "DATABASE_URL" and given:
                _say_notes(given)
            if variable.name == replica.SETTING and given:
                with replica.named_in_errors():
                    _say_notes(given)
        except ConfigurationError as error:
            click.echo(f"    WRONG: {error}")
            wrong += 1
    refuse_unknown(variables)
    context.exit(WRONG_USAGE if wrong else COMPLETE)


def _say_notes(url: str) -> None:
    """Print what became of a database URL's parameters."""
    for note in parse_url(url).notes:
        mark = "look: " if note.warning else ""
        click.echo(render.wrapped(f"{mark}{note}", indent=6, first="    "))


@click.command()
@click.option("--most", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@_as_json
@click.pass_obj
def runs(session: Session, *, most: int, as_json: bool) -> None:
    """List the runs, newest first.

    A run's id begins with the date and time of its start, in UTC; `backfill events` says
    who started it.

    \b
    Examples:
      backfill runs
      backfill runs --most 5 --json
    """
    session.require_ledger()
    parts = session.parts
    with parts.engine.begin() as connection:
        ids = ledger.newest_runs(connection, most)
    found = diagnosed(session, [parts.runs.read(run) for run in ids])
    if as_json:
        objects = []
        for run in found:
            backfill = parts.backfills[run.parameters.backfill]
            objects.append(run.as_json(render.classes(backfill, run), backfill.jobs))
        click.echo(json.dumps({"runs": objects}, ensure_ascii=False))
        return
    if not found:
        click.echo("There is no run yet: `backfill run --apply` starts one.")
        return
    click.echo(render.runs(found))


@click.command()
@click.argument("run", required=False)
@_as_json
@click.pass_obj
def status(session: Session, run: str | None, *, as_json: bool) -> None:
    """Show how a run stands (default: the newest).

    \b
    Examples:
      backfill status
      backfill status 261124-091500-a1b2 --json
    """
    found = session.run(run)
    show(session, found, as_json=as_json)


@click.command()
@click.argument("run", required=False)
@_as_json
@click.pass_context
def watch(context: click.Context, run: str | None, *, as_json: bool) -> None:
    """Follow a run (default: the newest) until it ends; Ctrl-C only stops looking.

    Shows how far it is, what holds each lane back, and what the host has made of its
    jobs. Where there is no terminal: a few plain lines now and then.

    Exits as `run` does: 0 complete, 3 complete but leads are quarantined, 1 failed, 4
    paused, cancelled or still going on.

    \b
    Examples:
      backfill watch
      backfill watch 261124-091500-a1b2
    """
    session: Session = context.obj
    found = session.run(run)
    with signals() as stopped:
        ended = follow_to_the_end(session, found.id, stopped=stopped, as_json=as_json)
    context.exit(ended)


@click.command()
@click.argument("run", required=False)
@click.option("--full", is_flag=True, help="Read whole tables instead of indexes: slow, but sees past a damaged index.")
@click.option("--replica", "on_replica", is_flag=True, help="Read from the standby of BACKFILL_REPLICA_URL.")
@_as_json
@click.pass_context
def verify(context: click.Context, run: str | None, *, full: bool, on_replica: bool, as_json: bool) -> None:
    """Ask the database whether a run (default: the newest) tells the truth.

    Looks for leads that the run has passed, that should have a result and have none
    (a job or a score; roll-ups as new as their messages), and holds the ledger's
    counts against each other and against the rows in the database. Changes nothing.

    \b
    Exit status: 0 clean, or nothing to look at yet; 1 leads are missing, or a
    count is contradicted; 3 leads are in quarantine, their job ended without a
    score, or those that the run has passed can't be seen: they are gone, or the
    standby does not have them yet.

    \b
    Examples:
      backfill verify
      backfill verify 261124-091500-a1b2 --json
      backfill verify --full --replica
    """
    session: Session = context.obj
    found = session.run(run)
    parts = session.parts
    backfill = parts.backfills[found.parameters.backfill]
    server, found, verification = _verify(session, found, full=full, on_replica=on_replica)
    if as_json:
        content = {
            "run_id": found.id,
            "state": found.state,
            "full": full,
            **server.as_json(),
            "clean": verification.clean,
            "looked_at": verification.looked_at,
            "missing": verification.missing,
            "left_alone": verification.left_alone,
            "hidden": verification.hidden,
            "arrived": verification.arrived,
            "quarantined": verification.quarantined,
            "unresolved": verification.unresolved,
            "waiting": verification.waiting,
            "counts": {name: {"ledger": said, "database": there} for name, (said, there) in verification.found.items()},
            "contradictions": verification.contradictions,
        }
        click.echo(json.dumps(content, ensure_ascii=False))
    else:
        click.echo(render.verification(backfill, found, verification, server=server))
    if verification.wrong:
        context.exit(FAILED)
    context.exit(COMPLETE if verification.clean or not found.has_passed_any else QUARANTINED)


def _verify(session: Session, run: Run, *, full: bool, on_replica: bool) -> tuple[Server, Run, Verification]:
    """Verify a run on the primary, or on the standby and as the standby's ledger has it."""
    parts, statement_ms = session.parts, session.settings.statement_timeout_ms
    backfill = parts.backfills[run.parameters.backfill]
    if not on_replica:
        return Server(), run, Verifier(parts.engine, backfill, statement_ms, full).verify(run)
    with replica.connected(session.settings, parts.engine) as standby:
        server, seen = standby.catch_up(run, seconds=_CATCH_UP_SECONDS)
        return server, seen, Verifier(standby.engine, backfill, statement_ms, full).verify(seen)


def say_whether_workers_are_online(*, pages: int = 0) -> None:
    """Say so, and what to do, if nobody is there to do the pages of a run that has done so many."""
    from backfill_tasks.fleet import is_any_online  # noqa: PLC0415  Celery takes half a second to import

    if not is_any_online():
        say("No worker is online. Start one: celery -A backfill_tasks worker")
        say(f"The run {'goes on' if pages else 'starts'} when one comes.")


def say_what_redis_had_lost(lanes: Collection[int]) -> None:
    """Say how many lanes have their place from the ledger, if any have."""
    if lanes:
        say(f"Redis had lost the cursor of {render.lanes_in_words(len(lanes))}: taken from the ledger.")
