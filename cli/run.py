"""The command `run`: count what would happen, or do it, or go on with what was begun."""

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from backfill_tasks.engine import checkpoint, ledger, schema
from backfill_tasks.engine.backfill import Backfill
from backfill_tasks.engine.model import TUNABLE, UNFINISHED, Lane, Run, RunId, RunState
from backfill_tasks.engine.overlap import overlaps, refuse
from backfill_tasks.engine.runs import cut, lanes_of, new_id
from backfill_tasks.engine.survey import Survey
from backfill_tasks.engine.verification import Verifier
from backfill_tasks.errors import CheckpointError, UsageError
from backfill_tasks.registry import DEFAULT, KINDS
from backfill_tasks.settings import number
from cli import render
from cli.commands import exit_status, follow_to_the_end, say_what_redis_had_lost, say_whether_workers_are_online, show
from cli.follow import Detached, follow, signals
from cli.pace import MOST_LEADS, OF_JOBS, TEN_MINUTES_MS, Bound, pace_options
from cli.rate import prepare_rate
from cli.request import PARAMETERS, Request, parse
from cli.session import COMPLETE, NOT_COMPLETE, Session, say

MOST_LANES = 64
_DAY_MS = 86_400_000
_LEAST_COST, _MOST_COST = 0.000_001, 1_000_000

#: How often a count is looked at, and after how many seconds it is spoken of.
_LOOK_SECONDS, _SILENT_SECONDS = 0.02, 2.0

#: What a page's leads take where nothing has been measured yet, for the expected time: leads a second in one lane.
_USUAL_RATE = 10_000


@click.command()
@click.argument("name", metavar="[NAME]", type=click.Choice(list(KINDS)), required=False)
@click.option("--dry-run", is_flag=True, help="Count what would happen, all of it, writing nothing (the default).")
@click.option("--apply", is_flag=True, help="Do it.")
@click.option(
    "--client-id",
    "--clientId",
    "client_ids",
    multiple=True,
    metavar="ID",
    help="Only this workspace; repeatable.",
)
@click.option(
    "--limit", type=click.IntRange(1, MOST_LEADS), default=500, show_default=True, help="Page size, in leads."
)
@click.option("--cursor", metavar="ID", help="Start after this lead.")
@click.option("--rescore-all", is_flag=True, help="Lead scoring: scored leads too (default: unscored only).")
@click.option(
    "--delay-ms",
    type=click.IntRange(0, _DAY_MS),
    default=0,
    show_default=True,
    help="Lead scoring: the n-th job of the run is due n times this after its start.",
)
@click.option("--run-until-done", is_flag=True, help="All pages (the default).")
@click.option("--single-batch", is_flag=True, help="Exactly one page; --resume goes on after it.")
@click.option("--canary", is_flag=True, help="One page, a report of what it did, and a pause until you resume.")
@pace_options
@click.option(
    "--cost-per-job",
    type=Bound(number(_LEAST_COST, _MOST_COST, off=False)),
    metavar="X",
    help="What one job costs you: counts then speak of money too.",
)
@click.option(
    "--page-delay-ms",
    type=click.IntRange(0, TEN_MINUTES_MS),
    default=0,
    show_default=True,
    help="Pause between the pages of a lane.",
)
@click.option(
    "--state-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write the checkpoint there as well, as JSON (default: none, the cursor is in Redis).",
)
@click.option("--resume", is_flag=True, help="Go on with the newest unfinished run (of NAME), or --state-file's.")
@click.option("--lanes", type=click.IntRange(1, MOST_LANES), help="How many lanes (default: BACKFILL_LANES, 2).")
@click.option("--rate", metavar="RATE", help="Set the rate of all workers together first: 20/s, 600/m, none.")
@click.option("--force", is_flag=True, help="Start even where an unfinished run walks the same leads.")
@click.option("--yes", is_flag=True, help="Don't ask before --apply starts.")
@click.option("--detach", is_flag=True, help="Return as soon as the run is seeded.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, the rest on standard error.")
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Walk all leads, page by page, and do what NAME says.

    \b
    lead-scoring     (the default) enqueue the scoring of every lead that has none
    message-rollups  bring each lead's lastInboundAt, lastOutboundAt,
                     lastMessageAt and lastMessageDirection up to its messages

    Without --apply this is a dry run: it counts every page through the same selection
    and changes nothing, neither in the database nor in Redis.

    \b
    Examples:
      backfill run                          what would happen
      backfill run --apply                  do it; Ctrl-C only detaches
      backfill run --apply --client-id ID   one workspace
      backfill run --apply --canary         one page first, to look at
      backfill run --apply --jobs-per-minute 15 --max-jobs 5000
      backfill run --resume                 go on with what was begun
      backfill run message-rollups --apply  another backfill

    \b
    Exit status: 0 complete, 1 failed, 2 wrong usage, 3 complete but leads are
    quarantined, 4 not complete (paused, cancelled, detached).
    """
    session: Session = context.obj
    request = parse(context, options, session.settings)
    if options["resume"] and options["cursor"] is not None:
        say("--resume is ignored, because --cursor is given.")
    elif options["resume"]:
        context.exit(_resume(session, request))
    context.exit(_start(session, request))


def _start(session: Session, request: Request) -> int:
    backfill = session.parts.backfills[request.parameters.backfill]
    apply = request.mode == "apply"
    if apply:
        session.require_redis()
        if request.state_file is not None:
            checkpoint.require_writable(request.state_file)
    with session.parts.engine.begin() as connection:
        backfill.check(connection, request.parameters.options, apply=apply)
        if apply and schema.version(connection):
            schema.require_rights(connection)
    if not apply:
        return _dry_run(session, backfill, request)
    _look_for_overlaps(session, backfill, request)
    lanes = _lanes(session, backfill, request)
    expected = None
    if not request.yes and sys.stdin.isatty() and sys.stderr.isatty():
        expected = _ask(session, backfill, request, lanes)
    elif not request.single_batch:
        expected = _expected(session, backfill, request, lanes)
    new = ledger.NewRun(new_id(), request.parameters, lanes, request.single_batch, request.ordinal, expected)
    _prepare_ledger(session)
    prepare_rate(session, request.rate, lanes=len(lanes))
    say_whether_workers_are_online()
    with signals() as stopped:
        session.parts.runs.start(new, force=request.force)
        say(f"Run {new.id} started in {render.lanes_in_words(len(lanes))}: {session.parts.address}.")
        status = _after_seeding(session, request, new.id, stopped)
    if request.canary and not request.detach:
        _report_canary(session, new.id)
    return status


def _report_canary(session: Session, run: RunId) -> None:
    """What the one page left in the database, and how to go on."""
    read = session.parts.runs.read(run)
    backfill = session.parts.backfills[read.parameters.backfill]
    found = Verifier(session.parts.engine, backfill, session.settings.statement_timeout_ms).verify(read)
    say()
    say(render.verification(backfill, read, found))
    say(f"This was the canary. If all looks well: backfill resume {run}")
    say(f"If it does not:                       backfill cancel {run}")


def _lanes(session: Session, backfill: Backfill, request: Request) -> tuple[Lane, ...]:
    if request.stretches is not None:
        return lanes_of(request.stretches)
    return cut(session.parts.engine, backfill, request.parameters, smallest=request.smallest_lane)


def _prepare_ledger(session: Session) -> None:
    with session.parts.engine.begin() as connection:
        applied = schema.migrate(connection)
    if applied:
        say(f"The ledger was brought to version {schema.latest()} (schema backfill).")


def _look_for_overlaps(session: Session, backfill: Backfill, request: Request) -> None:
    """Refuse what the ledger would refuse in the end, before anything is counted, asked or set."""
    with session.parts.engine.begin() as connection:
        found = schema.version(connection)
        schema.refuse_newer(found)
        beside = overlaps(connection, backfill, request.parameters.options) if found else []
    if not request.force:
        refuse(beside)
    for each in beside:
        say(f"Note: {each}; {each.way_out}.")


def _newest(session: Session, states: Sequence[RunState], backfill: str | None = None) -> RunId | None:
    """The newest run in one of these states, of this backfill or of any; None also where there is no ledger yet.

    Raises:
        LedgerError: the ledger is newer than this package, or this role may not read it.
    """
    with session.parts.engine.begin() as connection:
        found = schema.version(connection)
        schema.refuse_newer(found)
        return ledger.newest_run(connection, states=states, backfill=backfill) if found else None


def _dry_run(session: Session, backfill: Backfill, request: Request) -> int:
    if request.state_file is not None:
        say("A dry run writes no checkpoint: --state-file is ignored.")
    lanes = _lanes(session, backfill, request)
    try:
        counted = _count(session, backfill, request, lanes)
    except Detached:
        say("Stopped: nothing was changed.")
        return NOT_COMPLETE
    show(session, counted, as_json=request.as_json)
    return exit_status(counted)


def _count(session: Session, backfill: Backfill, request: Request, lanes: tuple[Lane, ...]) -> Run:
    """Walk the dry run with progress."""
    survey = _survey(session, backfill, request, lanes)
    with signals() as stopped, survey.walking():
        return follow(backfill, survey.read, stopped)


def _survey(session: Session, backfill: Backfill, request: Request, lanes: tuple[Lane, ...]) -> Survey:
    return Survey(
        engine=session.parts.engine,
        backfill=backfill,
        parameters=request.parameters,
        run=new_id(),
        lanes=lanes,
        statement_ms=session.settings.statement_timeout_ms,
        single_batch=request.single_batch,
    )


def _without_pauses(request: Request) -> Request:
    """To count is no work from which anybody must be spared."""
    return replace(request, parameters=replace(request.parameters, page_delay_ms=0))


def _expected(session: Session, backfill: Backfill, request: Request, lanes: tuple[Lane, ...]) -> int:
    """How many leads will be read, so that it can be told at any time how much is left."""
    survey = _survey(session, backfill, _without_pauses(request), lanes)
    with signals() as stopped, survey.walking():
        said_at = time.monotonic()
        while survey.read().state == "running":
            if time.monotonic() - said_at > _SILENT_SECONDS:
                said_at = float("inf")
                say(f"Counting the {backfill.items} first. Ctrl-C: nothing is started.")
            if stopped.wait(_LOOK_SECONDS):
                raise click.Abort
    return survey.read().counts.get("read", 0)


def _ask(session: Session, backfill: Backfill, request: Request, lanes: tuple[Lane, ...]) -> int:
    """Show what will be done, and ask; answers how many leads will be read."""
    try:
        counted = _count(session, backfill, _without_pauses(request), lanes)
    except Detached:
        raise click.Abort from None
    say(f"This will be done in {session.parts.address}:")
    say()
    for line in render.counts(backfill, counted):
        say(line)
    say(f"  {'pages':<16}{counted.pages:>11,}   in {render.lanes_in_words(len(lanes))}")
    say(f"  {'expected time':<16}{render.duration(_expected_seconds(session, request, counted)):>11}")
    for line in render.jobs(backfill, counted):
        say(line)
    say()
    click.confirm("Start?", abort=True, err=True)
    return counted.counts.get("read", 0)


def _expected_seconds(session: Session, request: Request, counted: Run) -> float:
    """About how long the run will take: at the last run's rate if there is one, and no faster than its pauses allow."""
    last = _newest(session, ("complete",), request.parameters.backfill)
    rate = session.parts.runs.read(last).leads_per_second if last else 0.0
    lanes = max(1, len(counted.lanes))
    working = counted.counts.get("read", 0) / (rate or _USUAL_RATE)
    pausing = counted.pages / lanes * request.parameters.page_delay_ms / 1000
    pace, jobs = request.parameters.pace, counted.jobs(session.parts.backfills[request.parameters.backfill].jobs)
    # Bounded by what may be pending, a run lasts as long as the host takes for its jobs: so many at each drain at best.
    due = 0.0
    if pace.max_pending is not None:
        due = (session.settings.drain_seconds or 0.0) * jobs / pace.max_pending
        if pace.jobs_per_minute is not None:
            due = max(due, 60 * jobs / pace.jobs_per_minute)
    return max(working + pausing, due)


def _resume(session: Session, request: Request) -> int:
    """Go on with the run that the checkpoint file names, or with the newest unfinished one."""
    found = checkpoint.read(request.state_file) if request.state_file else None
    match found:
        case checkpoint.OldCheckpoint():
            _refuse_another(request, "the old script's checkpoint", DEFAULT)
            place = "from the beginning" if found.cursor is None else f"after lead {found.cursor}"
            say(f"Going on with the old script's checkpoint, {place}, with job {found.ordinal + 1}.")
            parameters = replace(request.parameters, cursor=found.cursor)
            return _start(session, replace(request, parameters=parameters, ordinal=found.ordinal))
        case checkpoint.Checkpoint():
            _check_parameters(session, found, request)
            _refuse_another(request, f"the checkpoint of run {found.run}", found.parameters.backfill)
            run = found.run if _in_ledger(session, found.run) else None
        case None:
            if request.state_file is not None:
                say(f"There is no {request.state_file}: going on with the newest unfinished run.")
            session.require_ledger()
            run = _newest(session, UNFINISHED, request.parameters.backfill if request.named else None)
    if run is None and isinstance(found, checkpoint.Checkpoint):
        _refuse_differences(request, found.run, found.parameters.as_json())
        if not found.left:
            raise UsageError(f"run {found.run} had walked all its lanes: nothing is left to do")
        say(f"The ledger has lost run {found.run}: a new run goes on from its checkpoint.")
        restored = replace(
            request, mode="apply", parameters=found.parameters, ordinal=found.ordinal, stretches=found.left
        )
        return _start(session, restored)
    if run is None:
        of = f" of {request.parameters.backfill}" if request.named else ""
        raise UsageError(f"there is no unfinished run{of} to resume: `backfill runs` lists them")
    return _go_on(session, request, run)


def _refuse_another(request: Request, what: str, backfill: str) -> None:
    """A backfill that is named goes on with what is its own."""
    if request.named and request.parameters.backfill != backfill:
        raise UsageError(f"{what} is of {backfill}, not of {request.parameters.backfill}: leave the name away")


def _check_parameters(session: Session, found: checkpoint.Checkpoint, request: Request) -> None:
    """Refuse a checkpoint whose parameters no command line could have made."""
    parameters = found.parameters
    backfill = session.parts.backfills.get(parameters.backfill)
    why = None
    if backfill is None:
        why = f"there is no backfill {parameters.backfill!r}"
    elif parameters.limit > MOST_LEADS or parameters.lanes > MOST_LANES or parameters.page_delay_ms > TEN_MINUTES_MS:
        why = f"limit is {parameters.limit}, lanes is {parameters.lanes}, page_delay_ms is {parameters.page_delay_ms}"
    else:
        try:
            backfill.check_options(parameters.options)
        except ValueError as error:
            why = str(error)
    if why is not None:
        raise CheckpointError(f"{request.state_file} is no checkpoint: {why}")


def _in_ledger(session: Session, run: RunId) -> bool:
    with session.parts.engine.begin() as connection:
        return bool(schema.version(connection)) and ledger.read_run(connection, run) is not None


def _go_on(session: Session, request: Request, run: RunId) -> int:
    session.require_redis()
    session.require_ledger(to_write=True)
    if request.state_file is not None:
        checkpoint.require_writable(request.state_file)
    own = session.parts.runs.read(run)
    _refuse_differences(request, run, own.parameters.as_json())
    prepare_rate(session, request.rate, lanes=len(own.lanes))
    say_whether_workers_are_online(pages=own.pages)
    with signals() as stopped:
        say_what_redis_had_lost(session.parts.runs.resume(run, single_batch=request.single_batch))
        say(f"Run {run} goes on: {session.parts.address}.")
        return _after_seeding(session, request, run, stopped)


def _refuse_differences(request: Request, run: RunId, own: dict[str, Any]) -> None:
    """A run is resumed with its own parameters; the command line may repeat them, and not change them."""
    asked = request.parameters.as_json()
    lacks = frozenset() if KINDS[own["backfill"]].jobs else OF_JOBS
    for name in sorted(request.given):
        if name not in own or name in lacks:
            raise UsageError(f"run {run} is of {own['backfill']}, which has no {PARAMETERS[name]}: leave it away")
        if asked[name] != own[name]:
            other = f"`backfill tune {run}` changes it" if name in TUNABLE else "start a new run"
            raise UsageError(
                f"run {run} has {PARAMETERS[name]} {_shown(own[name])}, not {_shown(asked[name])}:"
                f" leave {PARAMETERS[name]} away, or {other}"
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


def _after_seeding(session: Session, request: Request, run: RunId, stopped: threading.Event) -> int:
    """Follow the run, unless that is not wanted."""
    keep = _Checkpoints(request.state_file)
    if not request.detach:
        return follow_to_the_end(session, run, stopped=stopped, as_json=request.as_json, on_reading=keep)
    seeded = session.parts.runs.read(run)
    keep(seeded)
    if request.state_file is not None:
        say(f"{request.state_file} holds the run's start only: nobody follows a detached run to write it again.")
    if request.as_json:
        show(session, seeded, as_json=True)
    say(f"`backfill watch {run}` follows it.")
    return COMPLETE


class _Checkpoints:
    """Writes a run's checkpoint file whenever the run has moved. A file that can't be written stops nothing."""

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
