"""Starting a run: what is checked, counted and asked before it is seeded, and what follows it."""

import sys
from pathlib import Path

from sqlalchemy import Connection

from backfill_tasks.engine import checkpoint, ledger, schema
from backfill_tasks.engine.connection import driver
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.encoding import unstorable
from backfill_tasks.engine.model import Lane, Run, RunId
from backfill_tasks.engine.overlap import overlaps, refuse
from backfill_tasks.engine.runs import cut, lanes_of, new_id
from backfill_tasks.engine.verification import Verifier
from backfill_tasks.errors import CheckpointError, UsageError
from cli import count, render
from cli.context import COMPLETE, Session, say
from cli.fleet_rate import prepare_rate
from cli.run_options import RunOptions
from cli.showing import follow_to_the_end, say_whether_workers_are_online, show
from cli.signals import Stopped, signals


def start(session: Session, run_options: RunOptions) -> int:
    """Count, or do, what is asked for, and answer the exit status."""
    backfill = session.parts.backfills[run_options.parameters.backfill]
    apply = run_options.mode == "apply"
    if apply:
        session.require_redis()
        if run_options.state_file is not None:
            checkpoint.require_writable(run_options.state_file)
    with session.parts.engine.begin() as connection:
        _require_storable(connection, run_options)
        backfill.check(connection, run_options.parameters.options, apply=apply)
        if apply and schema.version(connection):
            schema.require_rights(connection)
    if not apply:
        return count.dry_run(session, backfill, run_options, _lanes(session, backfill, run_options))
    _look_for_overlaps(session, backfill, run_options)
    lanes = _lanes(session, backfill, run_options)
    expected = None
    if not run_options.yes and sys.stdin.isatty() and sys.stderr.isatty():
        expected = count.ask(session, backfill, run_options, lanes)
    elif not run_options.single_batch:
        expected = count.expected(session, backfill, run_options, lanes)
    new = ledger.NewRun(
        new_id(), run_options.parameters, lanes, run_options.single_batch, run_options.ordinal, expected
    )
    _prepare_ledger(session)
    prepare_rate(session, run_options.rate, lanes=len(lanes))
    say_whether_workers_are_online()
    with signals() as stopped:
        session.parts.runs.start(new, force=run_options.force)
        say(f"Run {new.id} started in {render.lanes_in_words(len(lanes))}: {session.parts.address}.")
        status = after_seeding(session, run_options, new.id, stopped)
    if run_options.canary and not run_options.detach:
        _report_canary(session, new.id)
    return status


def _require_storable(connection: Connection, run_options: RunOptions) -> None:
    """Refuse a place in the ids with a character that the database lacks: it has none, and we'd have to guess one."""
    ends = [end for each in run_options.stretches or () for end in (each.lower, each.upper)]
    encoding = driver(connection).server_encoding
    foreign = unstorable(encoding, [run_options.parameters.cursor, *ends])
    if foreign is not None:
        raise UsageError(f"no lead of this database can be {foreign!r}: it is in {encoding}; look at --cursor")


def _lanes(session: Session, backfill: Backfill, run_options: RunOptions) -> tuple[Lane, ...]:
    if run_options.stretches is not None:
        return lanes_of(run_options.stretches)
    return cut(session.parts.engine, backfill, run_options.parameters, smallest=run_options.smallest_lane)


def _look_for_overlaps(session: Session, backfill: Backfill, run_options: RunOptions) -> None:
    """Refuse what the ledger would refuse in the end, before anything is counted, asked or set."""
    with session.parts.engine.begin() as connection:
        found = schema.version(connection)
        schema.refuse_newer(found)
        beside = overlaps(connection, backfill, run_options.parameters.options) if found else []
    if not run_options.force:
        refuse(beside)
    for each in beside:
        say(f"Note: {each}; {each.way_out}.")


def _prepare_ledger(session: Session) -> None:
    with session.parts.engine.begin() as connection:
        applied = schema.migrate(connection)
    if applied:
        say(f"The ledger was brought to version {schema.latest()} (schema backfill).")


def after_seeding(session: Session, run_options: RunOptions, run: RunId, stopped: Stopped) -> int:
    """Follow the run, unless that is not wanted."""
    keep = _Checkpoints(run_options.state_file)
    if not run_options.detach:
        return follow_to_the_end(session, run, stopped=stopped, as_json=run_options.as_json, on_reading=keep)
    seeded = session.parts.runs.read(run)
    keep(seeded)
    if run_options.state_file is not None:
        say(f"{run_options.state_file} holds the run's start only: nobody follows a detached run to write it again.")
    if run_options.as_json:
        show(session, seeded, as_json=True)
    say(f"`backfill watch {run}` follows it.")
    return COMPLETE


def _report_canary(session: Session, run: RunId) -> None:
    """Say what the canary left in the database, and how to go on."""
    read = session.parts.runs.read(run)
    backfill = session.parts.backfills[read.parameters.backfill]
    found = Verifier(session.parts.engine, backfill, session.settings.statement_timeout_ms).verify(read)
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
