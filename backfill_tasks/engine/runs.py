"""The commands on a run: start, resume, tune, pause, cancel."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine

from backfill_tasks.engine import ledger, schema, states
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Bounds, Lane, Run, RunId
from backfill_tasks.engine.overlap import overlaps, refuse
from backfill_tasks.engine.states import Command, RunState
from backfill_tasks.errors import OptionConflictError, UsageError
from backfill_tasks.options import OptionError, Parameters, all_options, tunable

if TYPE_CHECKING:
    from backfill_tasks.engine.chain import Chain


def new_id() -> RunId:
    """Return a new run id: short, sortable by start time, and unique."""
    return RunId(f"{datetime.now(UTC):%y%m%d-%H%M%S}-{secrets.token_hex(2)}")


def cut(engine: Engine, backfill: Backfill, parameters: Parameters, *, smallest: int) -> tuple[Lane, ...]:
    """Split the range of a run into its lanes, read-only; empty if there is nothing to walk."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY; SET LOCAL row_security = off")
        uppers = backfill.split(
            connection, parameters.options, after=parameters.cursor, lanes=parameters.lanes, smallest=smallest
        )
    lowers = [parameters.cursor, *uppers[:-1]]
    return lanes_of(Bounds(lower, upper) for lower, upper in zip(lowers, uppers, strict=bool(uppers)))


def lanes_of(stretches: Iterable[Bounds]) -> tuple[Lane, ...]:
    """Return one new lane for each stretch."""
    now = datetime.now(UTC)
    return tuple(
        Lane(number, bounds, None, 0, 1, "running", None, {}, now) for number, bounds in enumerate(stretches, start=1)
    )


@dataclass(frozen=True)
class Runs:
    """Starts, resumes and steers runs.

    Reading one needs no chain: it is assembled when a run is started, resumed or cancelled.
    """

    engine: Engine
    assemble_chain: "Callable[[], Chain]"
    backfills: Mapping[str, Backfill]

    @property
    def chain(self) -> "Chain":
        """Return the chain, which sends pages."""
        return self.assemble_chain()

    def start(self, new: ledger.NewRun, *, force: bool = False) -> RunId:
        """Write a run to the ledger, place its live cursors, and send the first page of every lane.

        For a single batch, only the first lane's page is sent; a resume walks the others. Concurrent starts are
        serialized, so the second one sees the first. Once a page is sent, the start no longer uses the database, so a
        database error can't fail a start that the workers have taken over.

        Raises:
            UsageError: an unfinished run overlaps this one, and the start isn't forced.
        """
        with self.engine.begin() as connection:
            ledger.lock_starts(connection)
            beside = overlaps(connection, self.backfills[new.parameters.backfill], new.parameters.options)
            if not force:
                refuse(beside)
            detail = {"force": True, "beside": [each.run for each in beside]} if force else None
            ledger.create(connection, new, detail=detail)
            created = ledger.read_run(connection, new.id)
        lanes = [lane for lane in created.lanes if lane.state == "running"] if created else []
        for lane in lanes[:1] if new.single_batch else lanes:
            self.chain.seed(new.id, lane)
        if not lanes:
            self.chain.finish(new.id)
        return new.id

    def resume(self, run: RunId, *, single_batch: bool = False) -> list[int]:
        """Resume a run from its position in the ledger; return the lanes whose cursor Redis had lost.

        A lane without a page had no cursor to lose: a single batch doesn't place cursors of lanes it hasn't reached.

        Safe whatever happened to the run's tasks: those still in flight have an older generation and are no-ops. A
        running run is reseeded, too.

        Raises:
            UsageError: the run is complete or cancelled, or doesn't exist.
        """
        before = self.read(run)
        states.require(run, before.state, "resume")
        left = [lane for lane in before.lanes if lane.state in states.UNFINISHED_LANES]
        lost = [lane.number for lane in left if lane.page and self.chain.live.read(run, lane.number) is None]
        with self.engine.begin() as connection:
            lanes = ledger.lock_lanes(connection, run)
            _require(connection, run, "resume")
            seeded = ledger.resume(connection, run, lanes, single_batch=single_batch, lost_lanes=lost)
        for lane in seeded:
            self.chain.seed(run, lane)
        if not seeded:
            self.chain.finish(run)
        return lost

    def tune(self, run: RunId, changes: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Change a run's tunable parameters, its backfill's own included; return the old and new values by name.

        Pages in progress finish with the old values; the next ones use the new.

        Raises:
            UsageError: there is no such run, it has ended, an option can't be tuned or rejects its value, or the run
                has an option that a change contradicts.
        """
        parameters = self.read(run).parameters
        backfill = self.backfills[parameters.backfill]
        checked = _checked(backfill, changes)
        with self.engine.begin() as connection:
            _require(connection, run, "tune")
            _refuse_conflicts(run, backfill, parameters, checked)
            defaults = {name: each.default for name, each in tunable(backfill.options).items()}
            return ledger.tune(connection, run, checked, defaults=defaults)

    def note_all(self, name: str, detail: Mapping[str, Any], *, who: str | None = None) -> None:
        """Record an event in every running run, if there is a ledger: for changes that concern no single run.

        The event names the user and host of this process, unless `who` names another.
        """
        with self.engine.begin() as connection:
            for run in ledger.running(connection) if schema.version(connection) else ():
                ledger.note(connection, run, name, detail, who=who or ledger.who())

    def pause(self, run: RunId, reason: str) -> bool:
        """Stop every lane after its current page; return False if the run is paused already.

        Raises:
            UsageError: the run has failed, is complete or cancelled, or doesn't exist.
        """
        with self.engine.begin() as connection:
            _require(connection, run, "pause")
            return ledger.move_run(connection, run, "paused", by="operator", reason=reason)

    def cancel(self, run: RunId) -> bool:
        """End a run for good, once the pages in flight finish; return False if it is cancelled already.

        Raises:
            UsageError: the run is complete, or doesn't exist.
        """
        with self.engine.begin() as connection:
            _require(connection, run, "cancel")
            cancelled = ledger.move_run(connection, run, "cancelled", by="operator", reason="cancelled by command")
        if cancelled:
            self.chain.live.forget(run, len(self.read(run).lanes))
        return cancelled

    def newest(self, states: Sequence[RunState], backfill: str | None = None) -> RunId | None:
        """Return the newest run in one of these states, of one backfill or of any; None if there is none.

        Raises:
            LedgerError: the ledger is newer than this package, or closed to this role.
        """
        with self.engine.begin() as connection:
            found = schema.version(connection)
            schema.refuse_newer(found)
            return ledger.newest_run(connection, states=states, backfill=backfill) if found else None

    def read(self, run: RunId) -> Run:
        """Return a run as recorded in the ledger.

        Raises:
            UsageError: there is no run with this id.
        """
        with self.engine.begin() as connection:
            found = ledger.read_run(connection, run)
        if found is None:
            raise _unknown(run)
        return found


def _checked(backfill: Backfill, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the validated changes of a run's options.

    Raises:
        UsageError: an option can't be tuned, has no meaning for this backfill, or rejects its value.
    """
    known = tunable(backfill.options)
    unknown = sorted(changes.keys() - known.keys())
    if unknown:
        raise UsageError(f"{', '.join(unknown)} can't be tuned. Tunable: {', '.join(known)}")
    for name in changes:
        if known[name].needs_jobs and not backfill.jobs:
            raise UsageError(f"{name}: {backfill.name} enqueues no jobs: remove it")
    try:
        return {name: known[name].check(new) for name, new in changes.items()}
    except OptionError as error:
        raise UsageError(str(error)) from None


def _refuse_conflicts(run: RunId, backfill: Backfill, parameters: Parameters, changes: Mapping[str, Any]) -> None:
    """Raise OptionConflictError if changes switch on an option while one that it excludes is on."""
    known, values = all_options(backfill.options), {**parameters.as_json(), **changes}
    on = [each for name, each in known.items() if each.is_on(values.get(name))]
    for each in on:
        for other in on:
            if each.excludes == other.name and {each.name, other.name} & changes.keys():
                has, asked = (each, other) if other.name in changes else (other, each)
                raise OptionConflictError(run, has.name, asked.name)


def _require(connection: Connection, run: RunId, command: Command) -> None:
    """Lock a run and raise UsageError unless it exists and its state allows the command."""
    state = ledger.lock_run(connection, run)
    if state is None:
        raise _unknown(run)
    states.require(run, state, command)


def _unknown(run: RunId) -> UsageError:
    return UsageError(f"there is no run {run}: `backfill runs` lists them")
