"""The client: what the command line, the exporter and Python programs do with backfills, in one place."""

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

#: How often `watch` looks, and how often a count does, in seconds.
_LOOK_SECONDS, _COUNT_SECONDS = 0.25, 0.02

#: How many items a second one lane reads, where nothing has been measured yet, for the expected time.
_USUAL_RATE = 10_000

#: How long `verify` waits for a standby that is behind, in seconds.
_CATCH_UP_SECONDS = 30.0


@dataclass(frozen=True)
class Order:
    """A run as it is asked for.

    Attributes:
        parameters: its parameters.
        single_batch: one page only, then it pauses.
        force: start it even beside an unfinished run that walks the same items.
        smallest_lane: how many items a lane holds at least; None: a page.
        ordinal: how many items an earlier run has numbered.
        stretches: what an earlier run has left over; None: the whole table behind the cursor.
        rate: the fleet's rate from now on; None: as it is.
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
        run: the counts by class, the pages and the lanes, in a run that is in no ledger.
        jobs: how many jobs it would enqueue.
        cost: what they would cost; None: no cost per job was given.
        seconds: about how long the run would take.
    """

    run: Run
    jobs: int
    cost: float | None
    seconds: float


class Client:
    """Plans, starts, follows and steers backfills of one database, through one Redis.

    Connections are opened when they are first needed. One thread at a time may use a client. A method that names no run
    means the newest.

    Every method may raise, beside the errors that it names: ConfigurationError (a setting is missing or wrong),
    UnreachableError (the database or Redis does not answer), LedgerError (the ledger is missing, of another version, or
    closed to this role), and sqlalchemy.exc.DBAPIError (the database refused or failed). None of them leaves anything
    half done: what a method writes, it writes in one transaction.
    """

    def __init__(self, settings: settings.Settings) -> None:
        self.settings = settings

    @classmethod
    def from_env(cls) -> Self:
        """Return a client of the settings in the environment, and in the file .env of the working directory."""
        return cls(settings.load())

    @cached_property
    def parts(self) -> Parts:
        """The engine, with a database that answers. Private: it changes with any version."""
        parts = assemble(self.settings, _send, patience=_PATIENCE)
        with database.reachable(parts.address), parts.engine.begin() as connection:
            connection.execute(text("SELECT 1"))
        return parts

    def close(self) -> None:
        """Close the connections to the database. The client opens new ones when it is used again."""
        if "parts" in self.__dict__:
            self.parts.engine.dispose()

    # ---- before a run

    def order(self, backfill: str, *, force: bool = False, single_batch: bool = False, **options: Any) -> Order:
        """Return the order of a run with these options (docs/reference/options.md); what is missing has its default.

        Raises:
            UsageError: there is no such backfill or option, or an option doesn't take its value.
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
        """Count what a run would do, writing nothing: neither the ledger nor Redis is needed.

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
        """Return the plan of a run that was counted."""
        backfill = self.parts.backfills[counted.parameters.backfill]
        jobs, price = counted.jobs(backfill.jobs), counted.parameters.cost_per_job
        return Plan(counted, jobs, None if price is None else jobs * price, self._expected_seconds(counted, jobs))

    def check(self, order: Order, *, apply: bool) -> None:
        """Refuse an order that can't be carried out here.

        Raises:
            HostError: the host's tables are missing, or this role may not do with them what the backfill must.
            LedgerError: this role may not write to the ledger.
            UsageError: an option names something that doesn't exist, or a key that the database can't hold.
        """
        backfill = self.parts.backfills[order.parameters.backfill]
        with self.parts.engine.begin() as connection:
            _require_storable(connection, order)
            backfill.check(connection, order.parameters.options, apply=apply)
            if apply and schema.version(connection):
                schema.require_rights(connection)

    def overlaps(self, order: Order) -> list[Overlap]:
        """Return the unfinished runs that walk items of an order too.

        Raises:
            UsageError: there are some, and the order isn't to be carried out by force.
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
        """Count an order's items in threads of this process, for as long as the block runs."""
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

        Without options it has the safe bounds of the command line: at most 12 jobs wait in the host's queue, no page
        starts while a live job has waited for more than three minutes, and pages adapt to 200 ms.

        Raises:
            UsageError: see `order`; or an unfinished run walks items of it too, and `force` isn't given.
            HostError: the host's tables are missing, or this role may not do with them what the backfill must.
            SeedingError: the run is in the ledger, but Redis failed before all first pages were sent. The watchdog
                sends the others once Redis is back; `resume` does so at once.
        """
        order = self.order(backfill, force=force, single_batch=single_batch, **options)
        self.require_redis()
        self.check(order, apply=True)
        self.overlaps(order)
        run = self.submit(order, self.lanes(order))
        # From here on the workers have the run: no fault of the database's is an error of the start.
        return ride_out(lambda: self.run(run), _sleep, lambda _: None) or self.run(run)

    def submit(self, order: Order, lanes: tuple[Lane, ...], *, expected: int | None = None) -> RunId:
        """Carry out an order that was checked; `expected`: how many items it will read, if that was counted.

        Raises:
            UsageError, SeedingError: see `start`.
        """
        self.migrate()
        self.require_room(order.rate, lanes=len(lanes))
        new = ledger.NewRun(new_id(), order.parameters, lanes, order.single_batch, order.ordinal, expected)
        with _seeding(new.id):
            return self.parts.runs.start(new, force=order.force)

    def pause(self, run: str | None = None) -> Run:
        """Let every lane of a run stop after the page that it is at.

        Raises:
            UsageError: there is no such run, or it can't be paused in its state.
        """
        found = self.run(run)
        self.parts.runs.pause(found.id, "paused by command")
        return self.run(found.id)

    def resume(self, run: str | None = None, *, single_batch: bool = False) -> Collection[int]:
        """Go on with an unfinished run from where the ledger has it, and return the lanes that Redis had lost.

        Raises:
            UsageError: there is no such run, or it has ended.
            HostError: the host's tables are missing, or this role may not do with them what the backfill must.
            SeedingError: the run goes on in the ledger, but Redis failed before all pages were sent; see `start`.
        """
        found = self.run(run)
        states.require(found.id, found.state, "resume")
        self.require_ledger(to_write=True)
        self.require_host(found)
        self.require_redis()
        self.require_room(None, lanes=len(found.lanes))
        return self.go_on(found.id, single_batch=single_batch)

    def go_on(self, run: RunId, *, single_batch: bool = False) -> Collection[int]:
        """Resume a run for which everything was checked. Raises as `resume` does."""
        with _seeding(run):
            return self.parts.runs.resume(run, single_batch=single_batch)

    def cancel(self, run: str) -> Run:
        """End a run for good, after the pages that are at work. What it did stays.

        Raises:
            UsageError: there is no such run, or it is complete.
        """
        found = self.run(run)
        self.parts.runs.cancel(found.id)
        return self.run(found.id)

    def tune(self, run: str, **changes: Any) -> Mapping[str, tuple[Any, Any]]:
        """Change tunable options while a run goes on, and return what was changed: old and new value, by name.

        Raises:
            UsageError: there is no such run, it has ended, or an option can't be changed or doesn't take its value.
        """
        unknown = sorted(changes.keys() - set(TUNABLE))
        if unknown:
            raise UsageError(f"{', '.join(unknown)} can't be changed; {', '.join(TUNABLE)} can")
        return self.parts.runs.tune(self.run(run).id, changes)

    def retry(self, run: str) -> Iterator[Tried]:
        """Try each quarantined item of a run again, in a transaction of its own; those that go through are the run's.

        Raises:
            UsageError: there is no such run, or it is cancelled.
            HostError: the host's tables are missing, or this role may not do with them what the backfill must.
        """
        found = self.run(run)
        states.require(found.id, found.state, "retry")
        self.require_host(found)
        yield from self.parts.retrier.retry(found.id)

    # ---- looking at runs

    def run(self, run: str | None = None) -> Run:
        """Return a run as the ledger has it.

        Raises:
            UsageError: there is none.
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
        """Return the runs that are running."""
        self.require_ledger()
        with self.parts.engine.begin() as connection:
            return ledger.running(connection)

    def newest(self, states: Sequence[RunState], backfill: str | None = None) -> RunId | None:
        """Return the newest run in one of these states, of one backfill or of any; None: there is none."""
        with self.parts.engine.begin() as connection:
            found = schema.version(connection)
            schema.refuse_newer(found)
            return ledger.newest_run(connection, states=states, backfill=backfill) if found else None

    @cached_property
    def observer(self) -> Observer:
        """Takes snapshots. Private: it changes with any version."""
        return Observer(self.settings, self.parts)

    def status(self, run: str | None = None) -> Snapshot:
        """Return a run with all that is known of it: counts, why lanes don't move, what the host makes of its jobs.

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
        """Yield snapshots of a run, four a second, the last when it no longer runs.

        A database that doesn't answer for a while is waited for: the run matters, not this look at it.

        Args:
            run: the run.
            wait: waits for so many seconds, and returns whether to stop looking; default: time.sleep.
            unreachable: is called once for each time that the database can't be asked.

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
        """Return why each lane that doesn't move stands, by its number.

        Raises:
            UsageError: there is no such run.
        """
        (found,) = self.observer.diagnosed([self.run(run)])
        return {lane.number: lane.reason for lane in found.lanes if lane.reason}

    def events(self, run: str | None = None) -> list[Event]:
        """Return what happened to a run: when, what, and who did it.

        Raises:
            UsageError: there is no such run.
        """
        found = self.run(run)
        with self.parts.engine.begin() as connection:
            return ledger.events(connection, found.id)

    def quarantined(self, run: str, *, most: int | None = None) -> list[Quarantined]:
        """Return the quarantined items of a run with their errors, `most` at the most.

        Raises:
            UsageError: there is no such run.
        """
        found = self.run(run)
        with self.parts.engine.begin() as connection:
            return ledger.quarantined(connection, found.id, most=most)

    def history(self, run: str | None = None, *, most_quarantined: int = 1_000) -> History:
        """Return a run's throughput, pauses and holds over time, as `backfill report` draws them.

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
        """Ask the database whether a run tells the truth. Changes nothing.

        Args:
            run: the run.
            full: read whole tables instead of indexes: slow, but sees past a damaged index.

        Raises:
            UsageError: there is no such run.
            HostError: this role can't see all of the host's rows.
        """
        return self._verifier(self.parts.engine, found := self.run(run), full=full).verify(found)

    def verify_on_standby(self, run: str | None = None, *, full: bool = False) -> tuple[Server, Run, Verification]:
        """Verify on the standby of BACKFILL_REPLICA_URL, once it has caught up; answers what was seen, and where.

        Raises:
            UsageError, HostError: see `verify`.
            UnverifiedError: the standby cancelled the same read again and again, or is too far behind.
        """
        with standby(self.settings, self.parts.engine) as replica:
            server, seen = replica.catch_up(self.run(run), seconds=_CATCH_UP_SECONDS)
            return server, seen, self._verifier(replica.engine, seen, full=full).verify(seen)

    # ---- the fleet and the host

    def pressure(self) -> list[Reading]:
        """Measure every indicator, those of every backfill's queue included, whether pages ask it or not."""
        pace = Pace(max_live_wait=self.settings.defaults["max_live_wait"])
        with self.parts.engine.begin() as connection:
            known = _has_ledger(connection)
            database.begin_read_only(connection, statement_ms=self.settings.statement_timeout_ms)
            own = [each for backfill in self.parts.backfills.usable() for each in backfill.indicators(pace)]
            general = [each for each in self.parts.pressure.indicators if known or not isinstance(each, PageDuration)]
            return self.parts.pressure.readings(connection, [*own, *general])

    def rate(self) -> Rate:
        """Return the rate of all workers together; where Redis knows none yet, the one that workers will start with."""
        return self._fleet_rate().read() or Rate.parse(self.settings.rate_limit)

    def set_rate(self, rate: Rate) -> Rate:
        """Let a rate hold for all workers together, and return the one before.

        Raises:
            UsageError: it is so low that pages which wait for it would be delivered twice.
        """
        from backfill_tasks.worker.fleet import require_room  # noqa: PLC0415  Celery takes half a second to import

        require_room(rate)
        return self._set_rate(rate)

    def require_room(self, rate: Rate | None, *, lanes: int) -> Rate | None:
        """See to the rate before so many lanes are seeded: set it if one is given, and return the one before then.

        Raises:
            UsageError: it is so low that pages which wait for it would be delivered twice.
        """
        from backfill_tasks.worker.fleet import require_room  # noqa: PLC0415  Celery takes half a second to import

        require_room(rate or self.rate(), more=lanes)
        return None if rate is None else self._set_rate(rate)

    def require_redis(self) -> None:
        """Raise UnreachableError unless Redis answers."""
        with redis_client.reachable(self.settings.redis_url):
            redis_client.connect(self.settings.redis_url, patience=_PATIENCE).ping()

    def require_ledger(self, *, to_write: bool = False) -> None:
        """Raise LedgerError unless the ledger is there, of the right version, and open to what is to be done."""
        with self.parts.engine.begin() as connection:
            schema.require(connection)
            if to_write:
                schema.require_rights(connection)

    def require_host(self, run: Run) -> None:
        """Raise HostError unless this role sees, and may do, all that a run takes."""
        with self.parts.engine.begin() as connection:
            self.parts.backfills[run.parameters.backfill].check_host(connection, apply=True)

    def migrate(self) -> bool:
        """Create the ledger, or bring it to this version; return whether there was anything to do. Safe to repeat."""
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

    def _expected_seconds(self, counted: Run, jobs: int) -> float:
        """About how long a run takes: at the last run's rate if there is one, and no faster than its pauses allow."""
        parameters, pace = counted.parameters, counted.parameters.pace
        last = self.newest(("complete",), parameters.backfill)
        rate = self.parts.runs.read(last).items_per_second if last else 0.0
        working = counted.counts.get("read", 0) / (rate or _USUAL_RATE)
        pausing = counted.pages / max(1, len(counted.lanes)) * parameters.page_delay_ms / 1000
        # Bounded by what may be pending, a run lasts as long as the host takes for its jobs: at best so many per drain.
        due = 0.0
        if pace.max_pending is not None:
            due = (self.settings.drain_seconds or 0.0) * jobs / pace.max_pending
            if pace.jobs_per_minute is not None:
                due = max(due, 60 * jobs / pace.jobs_per_minute)
        return max(working + pausing, due)


def ride_out(
    read: Callable[[], T], wait: Callable[[float], bool], unreachable: Callable[[DBAPIError], None]
) -> T | None:
    """Read, and while the database doesn't answer, read again; None: `wait` said to stop.

    Raises:
        DBAPIError: the database refuses, which doesn't pass.
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
    from backfill_tasks.worker.tasks import send  # noqa: PLC0415  Celery takes half a second to import; most methods do without

    send(message, delay)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextmanager
def _seeding(run: RunId) -> Iterator[None]:
    """Name the run in what fails once it is in the ledger."""
    try:
        yield
    except (RedisError, SendError) as error:
        raise SeedingError(run, str(error)) from error


def _has_ledger(connection: Connection) -> bool:
    """Whether there is a ledger that this role may read: without it, no page's duration is known."""
    try:
        return bool(schema.version(connection))
    except LedgerError:
        return False


def _require_storable(connection: Connection, order: Order) -> None:
    """Refuse a key with a character that the database lacks: no row has it, and we'd have to guess the place."""
    ends = [end for each in order.stretches or () for end in (each.lower, each.upper)]
    encoding = driver(connection).server_encoding
    foreign = unstorable(encoding, [order.parameters.cursor, *ends])
    if foreign is not None:
        raise UsageError(f"no key of this database can be {foreign!r}: it is in {encoding}; look at the cursor")
