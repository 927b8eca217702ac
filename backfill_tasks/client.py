"""The client: the operations on backfills that the command line, the exporter and Python programs share."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeVar

from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from backfill_tasks import settings
from backfill_tasks.engine import database, ledger, redis_client, schema, states
from backfill_tasks.engine.admission.indicators import PageDuration, Reading
from backfill_tasks.engine.chain import SendError
from backfill_tasks.engine.connection import driver
from backfill_tasks.engine.dry_run import DryRun
from backfill_tasks.engine.encoding import unstorable
from backfill_tasks.engine.ledger import Event, History
from backfill_tasks.engine.model import Bounds, Lane, PageMessage, Quarantined, Run, RunId
from backfill_tasks.engine.overlap import Overlap, overlaps, refuse
from backfill_tasks.engine.quarantine import Tried
from backfill_tasks.engine.rate import FleetRate, Rate
from backfill_tasks.engine.replica import Server
from backfill_tasks.engine.runs import cut, lanes_of, new_id
from backfill_tasks.engine.states import RunState
from backfill_tasks.engine.verification import Verification, Verifier
from backfill_tasks.errors import LedgerError, SeedingError, UsageError
from backfill_tasks.options import TUNABLE, OptionError, Pace, Parameters, resolve
from backfill_tasks.registry import KINDS
from backfill_tasks.replica import standby
from backfill_tasks.snapshot import Following, Observer, Snapshot
from backfill_tasks.wiring import Parts, assemble

T = TypeVar("T")

#: How often a call to Redis is tried before it fails, with growing waits: a few seconds in all.
_PATIENCE = 5

#: The polling intervals of `watch` and of a count, in seconds.
_LOOK_SECONDS, _COUNT_SECONDS = 0.25, 0.02

#: The assumed speed of a run, in items per second, where none has been measured, for estimating its duration.
_USUAL_RATE = 10_000

#: How many jobs of a run fit into one drain of a host that takes 20 and has 8 of its own, until it has been measured.
_USUAL_ROOM = 12.0

#: How long `verify` waits for a standby that lags behind, in seconds.
_CATCH_UP_SECONDS = 30.0


@dataclass(frozen=True)
class Order:
    """A requested run.

    Attributes:
        parameters: its parameters.
        single_batch: do only one page, then pause.
        force: start it even if an unfinished run walks the same items.
        smallest_lane: the minimum number of items in a lane; None: one page.
        ordinal: how many items an earlier run has numbered.
        stretches: what an earlier run has left over; None: the whole table after the cursor.
        rate: the new rate of the fleet; None: unchanged.
    """

    parameters: Parameters
    single_batch: bool = False
    force: bool = False
    smallest_lane: int | None = None
    ordinal: int = 0
    stretches: tuple[Bounds, ...] | None = None
    rate: Rate | None = None


@dataclass(frozen=True)
class Plan:
    """What a run would do, counted through the selection that the run itself uses.

    Attributes:
        run: the counts by class, the pages and the lanes, as a run that is in no ledger.
        jobs: how many jobs the run would enqueue.
        cost: what the jobs would cost; None: no cost per job was given.
        seconds: an estimate of how long the run would take.
    """

    run: Run
    jobs: int
    cost: float | None
    seconds: float


class Client:
    """Plans, starts, watches and controls backfills of one database, through one Redis.

    Connections are opened on first use. A client may be used by one thread at a time. A method called without a run
    uses the newest one.

    Besides the errors that it lists, every method may raise ConfigurationError (a setting is missing or wrong),
    UnreachableError (the database or Redis doesn't answer), LedgerError (the ledger is missing, of another version, or
    closed to this role), and sqlalchemy.exc.DBAPIError (the database refused or failed). None of them leaves anything
    half done: a method writes in one transaction, and `retry` in one per item.
    """

    def __init__(self, settings: settings.Settings) -> None:
        self.settings = settings

    @classmethod
    def from_env(cls) -> Self:
        """Return a client with the settings from the environment and from the file .env in the working directory."""
        return cls(settings.load())

    @cached_property
    def parts(self) -> Parts:
        """The engine, connected to a database that answers. Private: it may change with any version."""
        parts = assemble(self.settings, _send, patience=_PATIENCE)
        with database.reachable(parts.address), parts.engine.begin() as connection:
            connection.execute(text("SELECT 1"))
        return parts

    def close(self) -> None:
        """Close the connections to the database. A later call opens new ones."""
        if "parts" in self.__dict__:
            self.parts.engine.dispose()

    # ---- before a run

    def order(self, backfill: str, *, force: bool = False, single_batch: bool = False, **options: Any) -> Order:
        """Return the order for a run with these options (docs/reference/options.md); omitted ones get their defaults.

        Raises:
            UsageError: there is no such backfill or option, or an option rejects its value.
        """
        kind = KINDS.choose(backfill)
        try:
            parameters = resolve(
                kind.name, kind.options, has_jobs=bool(kind.jobs), asked=options, defaults=self.settings.defaults
            )
        except OptionError as error:
            raise UsageError(str(error)) from None
        except KeyError as error:
            raise UsageError(f"{backfill} has no option {error}") from None
        return Order(parameters, single_batch=single_batch, force=force)

    def plan(self, backfill: str, **options: Any) -> Plan:
        """Count what a run would do, without writing anything. Neither the ledger nor Redis is needed.

        Raises:
            UsageError: see `order`.
            HostError: the host's tables are missing, or this role can't read all of their rows.
        """
        order = self.order(backfill, **options)
        self.check(order, apply=False)
        with self.counting(order, self.lanes(order)) as counting:
            while (counted := counting.read()).state == "running":
                time.sleep(_COUNT_SECONDS)
        return self.planned(counted)

    def planned(self, counted: Run) -> Plan:
        """Return the plan for a counted run."""
        backfill = self.parts.backfills[counted.parameters.backfill]
        jobs, price = counted.jobs(backfill.jobs), counted.parameters.cost_per_job
        return Plan(counted, jobs, None if price is None else jobs * price, self._expected_seconds(counted, jobs))

    def check(self, order: Order, *, apply: bool) -> None:
        """Reject an order that can't be carried out here.

        Raises:
            HostError: the host's tables are missing, or this role lacks a right on them that the backfill needs.
            LedgerError: this role may not write to the ledger.
            UsageError: an option names something that doesn't exist, or a key that the database can't store.
        """
        backfill = self.parts.backfills[order.parameters.backfill]
        with self.parts.engine.begin() as connection:
            _require_storable(connection, order)
            backfill.check(connection, order.parameters.options, apply=apply)
            if apply and schema.version(connection):
                schema.require_rights(connection)

    def overlaps(self, order: Order) -> list[Overlap]:
        """Return the unfinished runs that also walk items of an order.

        Raises:
            UsageError: there are some, and the order doesn't force its start.
        """
        backfill = self.parts.backfills[order.parameters.backfill]
        with self.parts.engine.begin() as connection:
            found = schema.version(connection)
            schema.refuse_newer(found)
            beside = overlaps(connection, backfill, order.parameters.options) if found else []
        if not order.force:
            refuse(beside)
        return beside

    def lanes(self, order: Order) -> tuple[Lane, ...]:
        """Return the lanes into which an order is cut; none if there is nothing to walk."""
        if order.stretches is not None:
            return lanes_of(order.stretches)
        smallest = order.parameters.limit if order.smallest_lane is None else order.smallest_lane
        return cut(
            self.parts.engine,
            self.parts.backfills[order.parameters.backfill],
            order.parameters,
            smallest=smallest,
        )

    @contextmanager
    def counting(self, order: Order, lanes: tuple[Lane, ...]) -> Iterator[DryRun]:
        """Count an order's items in threads of this process while the block runs."""
        counting = DryRun(
            engine=self.parts.engine,
            backfill=self.parts.backfills[order.parameters.backfill],
            parameters=order.parameters,
            run=new_id(),
            lanes=lanes,
            statement_ms=self.settings.statement_timeout_ms,
            single_batch=order.single_batch,
        )
        with counting.walking():
            yield counting

    # ---- a run's life

    def start(self, backfill: str, *, force: bool = False, single_batch: bool = False, **options: Any) -> Run:
        """Start a run and return it as soon as its first pages are sent; the workers do the rest.

        By default it has the command line's safe bounds: at most 12 jobs wait in the host's queue, no page starts while
        a live job has waited for more than three minutes, and the page size adapts to 200 ms per page.

        Raises:
            UsageError: see `order`; or an unfinished run walks some of the same items, and `force` isn't set.
            HostError: the host's tables are missing, or this role lacks a right on them that the backfill needs.
            SeedingError: the run is in the ledger, but Redis failed before all first pages were sent. The watchdog
                sends the others once Redis is back; `resume` does so at once.
        """
        order = self.order(backfill, force=force, single_batch=single_batch, **options)
        self.require_redis()
        self.check(order, apply=True)
        self.overlaps(order)
        lanes = self.lanes(order)
        self.migrate()
        self.require_room(order.rate, lanes=len(lanes))
        run = self.submit(order, lanes)
        # The workers have the run now, so a database fault from here on is not an error of the start.
        return ride_out(lambda: self.run(run), _sleep, lambda _: None) or self.run(run)

    def submit(self, order: Order, lanes: tuple[Lane, ...], *, expected: int | None = None) -> RunId:
        """Carry out an order whose checks are done; `expected`: how many items it will read, if they were counted.

        Raises:
            UsageError, SeedingError: see `start`.
        """
        new = ledger.NewRun(new_id(), order.parameters, lanes, order.single_batch, order.ordinal, expected)
        with _seeding(new.id):
            return self.parts.runs.start(new, force=order.force)

    def pause(self, run: str | None = None) -> Run:
        """Pause a run: every lane stops after its current page.

        Raises:
            UsageError: there is no such run, or its state doesn't allow a pause.
        """
        found = self.run(run)
        self.parts.runs.pause(found.id, "paused by command")
        return self.run(found.id)

    def resume(self, run: str | None = None, *, single_batch: bool = False) -> Collection[int]:
        """Continue an unfinished run from its position in the ledger, and return the lanes that Redis had lost.

        Raises:
            UsageError: there is no such run, or it has ended.
            HostError: the host's tables are missing, or this role lacks a right on them that the backfill needs.
            SeedingError: the run is running in the ledger, but Redis failed before all pages were sent; see `start`.
        """
        found = self.run(run)
        states.require(found.id, found.state, "resume")
        self.require_ledger(to_write=True)
        self.require_host(found)
        self.require_redis()
        self.require_room(None, lanes=len(found.lanes))
        return self.go_on(found.id, single_batch=single_batch)

    def go_on(self, run: RunId, *, single_batch: bool = False) -> Collection[int]:
        """Resume a run without further checks. Raises like `resume`."""
        with _seeding(run):
            return self.parts.runs.resume(run, single_batch=single_batch)

    def cancel(self, run: str) -> Run:
        """End a run for good, after its pages in progress. What it has done stays.

        Raises:
            UsageError: there is no such run, or it is complete.
        """
        found = self.run(run)
        self.parts.runs.cancel(found.id)
        return self.run(found.id)

    def tune(self, run: str, **changes: Any) -> Mapping[str, tuple[Any, Any]]:
        """Change tunable options of an unfinished run, and return the changes: old and new value, by name.

        Raises:
            UsageError: there is no such run, it has ended, an option can't be tuned, or an option rejects its value.
        """
        unknown = sorted(changes.keys() - set(TUNABLE))
        if unknown:
            raise UsageError(f"{', '.join(unknown)} can't be changed; {', '.join(TUNABLE)} can")
        return self.parts.runs.tune(self.run(run).id, changes)

    def retry(self, run: str) -> Iterator[Tried]:
        """Retry each quarantined item of a run in its own transaction; items that succeed count for the run.

        Raises:
            UsageError: there is no such run, or it is cancelled.
            HostError: the host's tables are missing, or this role lacks a right on them that the backfill needs.
        """
        found = self.run(run)
        states.require(found.id, found.state, "retry")
        self.require_host(found)
        yield from self.parts.retrier.retry(found.id)

    # ---- inspecting runs

    def run(self, run: str | None = None) -> Run:
        """Return a run from the ledger.

        Raises:
            UsageError: there is no such run.
        """
        self.require_ledger()
        if run is not None:
            return self.parts.runs.read(RunId(run))
        with self.parts.engine.begin() as connection:
            newest = ledger.newest_run(connection)
        if newest is None:
            raise UsageError("there is no run yet: `backfill run --apply` starts one")
        return self.parts.runs.read(newest)

    def runs(self, most: int = 20) -> list[Run]:
        """Return the newest runs, newest first. Each lane that doesn't move carries its reason."""
        self.require_ledger()
        with self.parts.engine.begin() as connection:
            ids = ledger.newest_runs(connection, most)
        return self.observer.diagnosed([self.parts.runs.read(run) for run in ids])

    def running(self) -> Sequence[RunId]:
        """Return the ids of the running runs."""
        self.require_ledger()
        with self.parts.engine.begin() as connection:
            return ledger.running(connection)

    def newest(self, states: Sequence[RunState], backfill: str | None = None) -> RunId | None:
        """Return the newest run in one of these states, of one backfill or of any, or None if there is none."""
        with self.parts.engine.begin() as connection:
            found = schema.version(connection)
            schema.refuse_newer(found)
            return ledger.newest_run(connection, states=states, backfill=backfill) if found else None

    @cached_property
    def observer(self) -> Observer:
        """Takes snapshots. Private: it may change with any version."""
        return Observer(self.settings, self.parts)

    def status(self, run: str | None = None) -> Snapshot:
        """Return a run with its counts, why its lanes don't move, and what the host does with its jobs.

        Raises:
            UsageError: there is no such run.
        """
        return self.observer.snapshot(self.run(run))

    def watch(
        self,
        run: str | None = None,
        *,
        wait: Callable[[float], bool] | None = None,
        unreachable: Callable[[DBAPIError], None] = lambda _: None,
    ) -> Iterator[Snapshot]:
        """Yield four snapshots of a run per second, and a last one once the run is no longer running.

        If the database doesn't answer for a while, wait for it: only this view is interrupted, not the run.

        Args:
            run: the run.
            wait: waits for the given number of seconds, and returns whether to stop watching; default: time.sleep.
            unreachable: called once per outage of the database.

        Raises:
            UsageError: there is no such run.
        """
        wait = wait or _sleep
        found = ride_out(lambda: self.run(run), wait, unreachable)
        if found is None:
            return
        run_id, following = found.id, Following(self.observer, found)
        while found is not None:
            yield following.snapshot(found)
            if found.state != "running" or wait(_LOOK_SECONDS):
                return
            found = ride_out(lambda: self.parts.runs.read(run_id), wait, unreachable)

    def why(self, run: str | None = None) -> Mapping[int, str]:
        """Return the reason for each lane that doesn't move, by the lane's number.

        Raises:
            UsageError: there is no such run.
        """
        (found,) = self.observer.diagnosed([self.run(run)])
        return {lane.number: lane.reason for lane in found.lanes if lane.reason}

    def events(self, run: str | None = None) -> list[Event]:
        """Return the events of a run: when, what, and by whom.

        Raises:
            UsageError: there is no such run.
        """
        found = self.run(run)
        with self.parts.engine.begin() as connection:
            return ledger.events(connection, found.id)

    def quarantined(self, run: str, *, most: int | None = None) -> list[Quarantined]:
        """Return a run's quarantined items with their errors, at most `most` of them.

        Raises:
            UsageError: there is no such run.
        """
        found = self.run(run)
        with self.parts.engine.begin() as connection:
            return ledger.quarantined(connection, found.id, most=most)

    def history(self, run: str | None = None, *, most_quarantined: int = 1_000) -> History:
        """Return a run's throughput, pauses and postponements over time, as `backfill report` draws them.

        Raises:
            UsageError: there is no such run.
        """
        found = self.run(run)
        with self.parts.engine.begin() as connection:
            history = ledger.read_history(connection, found.id, most=most_quarantined)
        if history is None:
            raise UsageError(f"run {found.id} was deleted just now")
        return history

    def verify(self, run: str | None = None, *, full: bool = False) -> Verification:
        """Check a run's records against the database. Changes nothing.

        Args:
            run: the run.
            full: read whole tables instead of indexes: slow, but not misled by a damaged index.

        Raises:
            UsageError: there is no such run.
            HostError: this role can't see all of the host's rows.
        """
        return self._verifier(self.parts.engine, found := self.run(run), full=full).verify(found)

    def verify_on_standby(self, run: str | None = None, *, full: bool = False) -> tuple[Server, Run, Verification]:
        """Verify on the standby of BACKFILL_REPLICA_URL, once it has caught up.

        Return the server, the run as the standby has it, and the verification.

        Raises:
            UsageError, HostError: see `verify`.
            UnverifiedError: the standby cancelled the same read repeatedly, or is too far behind.
        """
        with standby(self.settings, self.parts.engine) as replica:
            server, seen = replica.catch_up(self.run(run), seconds=_CATCH_UP_SECONDS)
            return server, seen, self._verifier(replica.engine, seen, full=full).verify(seen)

    # ---- the fleet and the host

    def pressure(self) -> list[Reading]:
        """Measure every indicator, whether pages use it or not, including those of every backfill's queue."""
        pace = Pace(max_live_wait=self.settings.defaults["max_live_wait"])
        with self.parts.engine.begin() as connection:
            known = _has_ledger(connection)
            database.begin_read_only(connection, statement_ms=self.settings.statement_timeout_ms)
            own = [each for backfill in self.parts.backfills.usable() for each in backfill.indicators(pace)]
            general = [each for each in self.parts.pressure.indicators if known or not isinstance(each, PageDuration)]
            return self.parts.pressure.readings(connection, [*own, *general])

    def rate(self) -> Rate:
        """Return the rate of all workers together; if Redis has none yet, the rate with which workers will start."""
        return self._fleet_rate().read() or Rate.parse(self.settings.rate_limit)

    def set_rate(self, rate: Rate) -> Rate:
        """Set the rate of all workers together, and return the previous one.

        Raises:
            UsageError: the rate is so low that waiting pages would be redelivered before they start.
        """
        from backfill_tasks.worker.fleet import require_room  # noqa: PLC0415  Celery takes half a second to import

        require_room(rate)
        return self._set_rate(rate)

    def require_room(self, rate: Rate | None, *, lanes: int) -> Rate | None:
        """Check, before this many lanes are seeded, that the rate is high enough.

        If a rate is given, set it and return the previous one.

        Raises:
            UsageError: the rate is so low that waiting pages would be redelivered before they start.
        """
        from backfill_tasks.worker.fleet import require_room  # noqa: PLC0415  Celery takes half a second to import

        require_room(rate or self.rate(), more=lanes)
        return None if rate is None else self._set_rate(rate)

    def require_redis(self) -> None:
        """Raise UnreachableError unless Redis answers."""
        with redis_client.reachable(self.settings.redis_url):
            redis_client.connect(self.settings.redis_url, patience=_PATIENCE).ping()

    def require_ledger(self, *, to_write: bool = False) -> None:
        """Raise LedgerError unless the ledger exists, has the right version, and can be read or, if asked, written."""
        with self.parts.engine.begin() as connection:
            schema.require(connection)
            if to_write:
                schema.require_rights(connection)

    def require_host(self, run: Run) -> None:
        """Raise HostError unless this role sees all the rows, and has all the rights, that a run needs."""
        with self.parts.engine.begin() as connection:
            self.parts.backfills[run.parameters.backfill].check_host(connection, apply=True)

    def migrate(self) -> bool:
        """Create the ledger or migrate it to this version; return whether anything was changed. Safe to repeat."""
        with self.parts.engine.begin() as connection:
            return bool(schema.migrate(connection))

    def _set_rate(self, rate: Rate) -> Rate:
        before = self._fleet_rate().set(rate) or Rate.parse(self.settings.rate_limit)
        if before != rate and self.settings.database_url is not None:
            self.parts.runs.note_all("rate", {"rate": [before.text, rate.text]})
        return before

    def _fleet_rate(self) -> FleetRate:
        return FleetRate(redis_client.connect(self.settings.redis_url, patience=0), self.settings.queue)

    def _verifier(self, engine: Engine, run: Run, *, full: bool) -> Verifier:
        backfill = self.parts.backfills[run.parameters.backfill]
        return Verifier(engine, backfill, self.settings.statement_timeout_ms, full)

    def _per_drain(self, parameters: Parameters) -> float:
        """Return how many of a run's jobs the host takes in one drain: the bound, or what the last runs have seen."""
        most = parameters.pace.max_pending
        if isinstance(most, int):
            return most
        with self.parts.engine.begin() as connection:
            if schema.version(connection) != schema.latest():
                return _USUAL_ROOM
            _, bound = ledger.read_bound(connection, parameters.backfill)
        return max(1.0, bound.capacity - bound.live_per_call) if bound else _USUAL_ROOM

    def _expected_seconds(self, counted: Run, jobs: int) -> float:
        """Estimate a run's duration from the last complete run's speed, the run's pauses and the host's queue."""
        parameters, pace = counted.parameters, counted.parameters.pace
        last = self.newest(("complete",), parameters.backfill)
        rate = self.parts.runs.read(last).items_per_second if last else 0.0
        working = counted.counts.get("read", 0) / (rate or _USUAL_RATE)
        pausing = counted.pages / max(1, len(counted.lanes)) * parameters.page_delay_ms / 1000
        # With max_pending, a run takes at least as long as the host takes for its jobs: at most that many per drain.
        due = 0.0
        if pace.max_pending is not None:
            due = (self.settings.drain_seconds or 0.0) * jobs / self._per_drain(parameters)
            if pace.jobs_per_minute is not None:
                due = max(due, 60 * jobs / pace.jobs_per_minute)
        return max(working + pausing, due)


def ride_out(
    read: Callable[[], T], wait: Callable[[float], bool], unreachable: Callable[[DBAPIError], None]
) -> T | None:
    """Read, retrying while the database doesn't answer; return None if `wait` says to stop.

    Raises:
        DBAPIError: the database refused, which doesn't pass.
    """
    away = False
    while True:
        try:
            return read()
        except DBAPIError as error:
            if not database.is_transient(error):
                raise
            if not away:
                unreachable(error)
            away = True
        if wait(_LOOK_SECONDS):
            return None


def _send(message: PageMessage, delay: float) -> None:
    from backfill_tasks.worker.tasks import send  # noqa: PLC0415  Celery takes half a second to import; most methods don't need it

    send(message, delay)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextmanager
def _seeding(run: RunId) -> Iterator[None]:
    """Name the run in an error that occurs once the run is in the ledger."""
    try:
        yield
    except (RedisError, SendError) as error:
        raise SeedingError(run, str(error)) from error


def _has_ledger(connection: Connection) -> bool:
    """Return whether there is a ledger that this role may read: without it, no page's duration is known."""
    try:
        return bool(schema.version(connection))
    except LedgerError:
        return False


def _require_storable(connection: Connection, order: Order) -> None:
    """Reject a key that the database's encoding can't store: no row can have it, so its place would be a guess."""
    ends = [end for each in order.stretches or () for end in (each.lower, each.upper)]
    encoding = driver(connection).server_encoding
    foreign = unstorable(encoding, [order.parameters.cursor, *ends])
    if foreign is not None:
        raise UsageError(f"no key of this database can be {foreign!r}: it is in {encoding}; look at the cursor")
