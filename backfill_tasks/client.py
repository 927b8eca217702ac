"""The client: the operations on backfills that the command line, the exporter and Python programs share."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from backfill_tasks import settings
from backfill_tasks.engine import database, ledger, redis_client, schema, states
from backfill_tasks.engine.admission.indicators import Reading
from backfill_tasks.engine.distribution import Distribution
from backfill_tasks.engine.ledger import Event, History
from backfill_tasks.engine.model import Lane, PageMessage, Quarantined, Run, RunId
from backfill_tasks.engine.rate import FleetRate, Rate, current_rate, initial_rate
from backfill_tasks.engine.runs import new_id
from backfill_tasks.engine.states import RunState
from backfill_tasks.errors import BackfillError, UsageError
from backfill_tasks.forecast.answer import Forecast
from backfill_tasks.observer import Following, Observer
from backfill_tasks.outages import ride_out, seeding, sleep
from backfill_tasks.registry import DEFAULT
from backfill_tasks.scoring import parameters as scoring
from backfill_tasks.snapshot import Snapshot
from backfill_tasks.wiring import Parts, assemble

if TYPE_CHECKING:
    from backfill_tasks.drain.overview import Overview
    from backfill_tasks.engine.contract import Backfill
    from backfill_tasks.engine.quarantine import Tried
    from backfill_tasks.engine.replica import Server
    from backfill_tasks.engine.verification import Verification, Verifier
    from backfill_tasks.engine.why import Answer
    from backfill_tasks.planning import Order, Plan, Planner
    from backfill_tasks.scoring.comparison import Comparison
    from backfill_tasks.scoring.cost import CostForecast
    from backfill_tasks.scoring.message import ScoreMessage
    from backfill_tasks.scoring.sessions import Session
    from backfill_tasks.scoring.work import Work

#: How often a call to Redis is tried before it fails, with growing waits: a few seconds in all.
_PATIENCE = 5

#: The polling interval of `watch`, in seconds, while the run is running and while only its jobs go on.
_LOOK_SECONDS, _ROAD_SECONDS = 0.25, 2.0

#: The scorer used if no name is given.
DEFAULT_SCORER = "rules"

#: How long `verify` waits for a standby that lags behind, in seconds.
_CATCH_UP_SECONDS = 30.0


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

    @cached_property
    def planner(self) -> "Planner":
        """Checks and counts orders. Private: it may change with any version."""
        from backfill_tasks.planning import Planner

        return Planner(self.settings, self.parts)

    def plan(self, backfill: str, *, forecast_cost: str | None = None, **options: Any) -> "Plan":
        """Count what a run would do, without writing anything. Neither the ledger nor Redis is needed.

        Args:
            backfill: its name.
            forecast_cost: also forecast what it would cost to score the leads here, by the scorer of this name.
            options: its options (docs/reference/options.md); omitted ones get their defaults.

        Raises:
            UsageError: there is no such backfill or option, or an option rejects its value.
            HostError: the host's tables are missing, or this role can't read all of their rows.
        """
        from backfill_tasks import planning

        order = planning.order(self.settings, backfill, options)
        if forecast_cost is None:
            return self.planner.plan(order)
        self.require_cost_forecast(backfill, forecast_cost)
        plan = self.planner.plan(order)
        return replace(plan, cost_forecast=self.forecast_cost(plan.run, forecast_cost))

    def require_cost_forecast(self, backfill: str, scorer: str) -> None:
        """Refuse a forecast that can't be made, before anything is counted.

        Raises:
            UsageError: the backfill's leads aren't scored.
            PluginError, ConfigurationError: the scorer can't be used.
        """
        if backfill != DEFAULT:
            raise UsageError(f"there is nothing to forecast: {backfill} enqueues no leads to be scored")
        self._scoring.scorers[scorer]

    def forecast_cost(self, counted: Run, scorer: str) -> "CostForecast":
        """Forecast what scoring the leads of a counted run here would cost, from a sample of their conversations.

        Jobs that wait already count, too. Writes nothing.

        Raises:
            UsageError: there is no such scorer, or it doesn't say what a lead takes.
            ConfigurationError: its model has no price.
            HostError: this role may not read the host's tables.
        """
        from backfill_tasks.scoring.cost import Choice

        parameters, counts = counted.parameters, counted.counts
        options = parameters.options
        choice = Choice(options["client_ids"], options["rescore_all"], parameters.cursor)
        leads = sum(counts.get(each, 0) for each in ("inserted", "requeued", "refreshed"))
        statement_ms = self.settings.statement_timeout_ms
        return self._scoring.forecast_cost(scorer, choice, leads, statement_ms=statement_ms)

    # ---- a run's life

    def start(self, backfill: str, *, force: bool = False, single_batch: bool = False, **options: Any) -> Run:
        """Start a run and return it as soon as its first pages are sent; the workers do the rest.

        Takes the same options as `plan`. `single_batch` does one page and then pauses the run.

        By default it has the command line's safe bounds: it enqueues what live jobs leave of the host's next call, no
        page starts while a live job has waited for more than three minutes, and the page size adapts to 200 ms a page.

        Raises:
            UsageError: see `plan`; or an unfinished run walks some of the same items, and `force` isn't set.
            HostError: the host's tables are missing, or this role lacks a right on them that the backfill needs.
            SeedingError: the run is in the ledger, but Redis failed before all first pages were sent. The watchdog
                sends the others once Redis is back; `resume` does so at once.
        """
        from backfill_tasks import planning

        order = planning.order(self.settings, backfill, options, force=force, single_batch=single_batch)
        self.require_redis()
        self.planner.check(order, apply=True)
        self.planner.overlaps(order)
        lanes = self.planner.lanes(order)
        self.migrate()
        self.require_room(order.rate, lanes=len(lanes))
        run = self.submit(order, lanes)
        # The workers have the run now, so a database fault from here on is not an error of the start.
        return ride_out(lambda: self.run(run), sleep, lambda _: None) or self.run(run)

    def submit(self, order: "Order", lanes: tuple[Lane, ...], *, expected: int | None = None) -> RunId:
        """Carry out an order whose checks are done; `expected`: how many items it will read, if they were counted.

        Raises:
            UsageError, SeedingError: see `start`.
        """
        new = ledger.NewRun(new_id(), order.parameters, lanes, order.single_batch, order.ordinal, expected)
        with seeding(new.id):
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
        with seeding(run):
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

        The run's backfill may have tunable options of its own. The next page of each lane uses the new values.

        Raises:
            UsageError: there is no such run, it has ended, an option can't be tuned, or an option rejects its value.
        """
        return self.parts.runs.tune(self.run(run).id, changes)

    def retry(self, run: str) -> "Iterator[Tried]":
        """Retry each quarantined item of a run in its own transaction; items that succeed count for the run.

        Raises:
            UsageError: there is no such run, or it is cancelled.
            HostError: the host's tables are missing, or this role lacks a right on them that the backfill needs.
        """
        found = self.run(run)
        states.require(found.id, found.state, "retry")
        self.require_host(found)
        yield from self.parts.retrier.retry(found.id)

    # ---- scoring here

    def work(
        self,
        scorer: str = scoring.DEFAULT_SCORER,
        *,
        batch: int | None = None,
        concurrency: int = scoring.Parameters.concurrency,
        parallel: int = scoring.Parameters.parallel,
        max_spend: Decimal | int | None = None,
        until_done: bool = False,
    ) -> "Session":
        """Start to score leads here, for the host's runner, and return the session; the scoring workers do the rest.

        Args:
            scorer: the scorer's name: an entry point of the group `backfill.scorers`.
            batch: how many jobs a batch claims; None: as many as suit the scorer.
            concurrency: how many requests of a batch are in flight at once.
            parallel: how many batches are in progress at once, over all workers.
            max_spend: the budget, in the price list's currency; required by a scorer that costs money.
            until_done: end the session once every job of ours has ended and no run is running.

        Raises:
            UsageError: there is no such scorer, it needs a budget, or scoring is running already.
            ConfigurationError: the scorer's model has no price.
            HostError: the host's tables are missing, or this role lacks a right on them.
            BatchSendError: the session is in the ledger, but Redis failed; the watchdog starts it once Redis is back.
        """
        budget = scoring.budget(max_spend)
        if batch is None:
            batch = self._scoring.scorers[scorer].jobs_per_batch
        parameters = scoring.Parameters(scorer, batch, concurrency, parallel, budget, until_done)
        parameters.require_valid()
        self.require_redis()
        with self.parts.engine.begin() as connection:
            self.parts.backfills[DEFAULT].check_host(connection, apply=True)
        self.migrate()
        self.require_ledger(to_write=True)
        return self._scoring.read(self._scoring.start(parameters))

    def compare(
        self,
        scorer: str = scoring.DEFAULT_SCORER,
        *,
        sample: int = 25,
        concurrency: int = scoring.Parameters.concurrency,
        max_spend: Decimal | int | None = None,
    ) -> "Comparison":
        """Compare a scorer with the scores that leads already have, in this process. Writes nothing.

        Args:
            scorer: the scorer's name.
            sample: the most leads of one workspace and one score.
            concurrency: how many requests are in flight at once.
            max_spend: the budget, in the price list's currency; required by a scorer that costs money.

        Raises:
            UsageError: there is no such scorer, or it needs a budget.
            ConfigurationError: the scorer's model has no price.
            HostError: this role may not read the host's tables.
        """
        scoring.require_whole("sample", sample, scoring.MOST_IN_A_BATCH)
        parameters = scoring.Parameters(scorer, concurrency=concurrency, max_spend=scoring.budget(max_spend))
        parameters.require_valid()
        return self._scoring.compare(parameters, sample)

    def stop_work(self) -> "tuple[Session, bool]":
        """Stop scoring here; return the session, and whether it was running. Batches in progress send no more requests.

        Requests at a provider that answers hours later are cancelled; the workers collect what they have done by then.

        Raises:
            UsageError: nothing has been scored here yet.
        """
        self.require_ledger()
        return self._scoring.stop()

    def work_status(self, session: str | None = None) -> "Session":
        """Return a scoring session; by default the one that is running, or else the newest.

        Raises:
            UsageError: there is none.
        """
        self.require_ledger()
        return self._scoring.read(session)

    @cached_property
    def _scoring(self) -> "Work":
        from backfill_tasks.scoring import assembly

        return assembly.assemble(self.settings, _send_batch, engine=self.parts.engine)

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

    def knows(self, run: str) -> bool:
        """Return whether there is a ledger that has a run."""
        with self.parts.engine.begin() as connection:
            return bool(schema.version(connection)) and ledger.read_run(connection, RunId(run)) is not None

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
        return self.parts.runs.newest(states, backfill)

    @cached_property
    def observer(self) -> Observer:
        """Takes snapshots. Private: it may change with any version."""
        return Observer(self.settings, self.parts, self.settings.statement_timeout_ms)

    def status(self, run: str | None = None, *, what_ifs: Sequence[Mapping[str, Any]] = ()) -> Snapshot:
        """Return a run with its counts, why its lanes don't move, what has become of its jobs, and a forecast.

        Args:
            run: the run.
            what_ifs: for each alternative, the options that it changes (see `forecast`). Without any, up to two that
                suggest themselves are forecast.

        Raises:
            UsageError: there is no such run, or an alternative can't be forecast.
        """
        found = self.run(run)
        backfill = self.parts.backfills[found.parameters.backfill]
        checked = [_require_alternative(backfill, each) for each in what_ifs]
        return self.observer.snapshot(found, checked)

    def forecast(self, run: str | None = None, **changes: Any) -> Forecast:
        """Return when the last lead of a run has its score, as an 80 % interval, and the constraint that binds.

        Args:
            run: the run.
            changes: other values of tunable options, or of `parallel`, `concurrency` and `max_spend` of `work`, for
                "what if". Nothing is changed.

        Raises:
            UsageError: there is no such run or option, an option rejects its value, or the backfill has no jobs.
        """
        from backfill_tasks.forecast.what_if import what_if

        found = self.run(run)
        backfill = self.parts.backfills[found.parameters.backfill]
        if not backfill.jobs:
            raise UsageError(f"{backfill.name} enqueues no jobs: there is nothing to forecast")
        checked = _require_alternative(backfill, changes)
        outcome = self.observer.outcome(self.parts.engine, found)
        situation = self.observer.situation(self.parts.engine, found, outcome)
        if situation is None:
            return Forecast.unknown("unmeasured", "the run is older than the record of its jobs")
        return what_if(situation, checked).forecast

    def watch(
        self,
        run: str | None = None,
        *,
        wait: Callable[[float], bool] | None = None,
        unreachable: Callable[[DBAPIError], None] = lambda _: None,
        until_scored: bool = False,
    ) -> Iterator[Snapshot]:
        """Yield four snapshots of a run per second, and a last one once the run is no longer running.

        If the database doesn't answer for a while, wait for it: only this view is interrupted, not the run.

        Args:
            run: the run.
            wait: waits for the given number of seconds, and returns whether to stop watching; default: time.sleep.
            unreachable: called once per outage of the database.
            until_scored: follow a complete run on, until no item waits for its result.

        Raises:
            UsageError: there is no such run.
        """
        wait = wait or sleep
        found = ride_out(lambda: self.run(run), wait, unreachable)
        if found is None:
            return
        run_id, following = found.id, Following(self.observer, found)
        while found is not None:
            seen = following.snapshot(found)
            yield seen
            goes_on = found.state == "running" or (until_scored and seen.has_items_on_their_way)
            if not goes_on or wait(_LOOK_SECONDS if found.state == "running" else _ROAD_SECONDS):
                return
            found = ride_out(lambda: self.parts.runs.read(run_id), wait, unreachable)

    def why(self, item: str, *, backfill: str = DEFAULT) -> "Answer":
        """Return what became of one item: where the runs put it, what its job does, and what keeps it from its result.

        Reads a few rows by index, whatever the size of the tables and the ledger. The answer holds no text of a message
        and no personal data.

        Args:
            item: its key, as text: for lead-scoring, the lead's id.
            backfill: the backfill's name.

        Raises:
            UsageError: there is no such backfill, or neither the database nor the ledger has the item.
            HostError: the host's tables are missing, or this role can't read all of their rows.
        """
        from backfill_tasks.engine.why import why

        chosen = self.parts.backfills.choose(backfill)
        with self.parts.engine.begin() as connection:
            return why(connection, chosen, item, statement_ms=self.settings.statement_timeout_ms)

    def reasons(self, run: str | None = None) -> Mapping[int, str]:
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

    def distribution(self, run: str | None = None) -> Distribution | None:
        """Return how many of a run's leads have which score, by workspace, and where the scores come from.

        None for a backfill without scores. Takes a second or two for each 300,000 leads of the run.

        Raises:
            UsageError: there is no such run.
        """
        return self.observer.distribution(self.run(run))

    def history(self, run: str | None = None, *, most_quarantined: int = 1_000) -> History:
        """Return a run's throughput, pauses and postponements over time, and its scores, as `backfill report` has them.

        If the scores can't be counted, for example within the time limit of a statement, `uncounted` says why.

        Raises:
            UsageError: there is no such run.
        """
        found = self.run(run)
        with self.parts.engine.begin() as connection:
            history = ledger.read_history(connection, found.id, most=most_quarantined)
        if history is None:
            raise UsageError(f"run {found.id} was deleted just now")
        try:
            return replace(history, distribution=self.observer.distribution(history.run))
        except DBAPIError as error:
            return replace(history, uncounted=database.reason(error))
        except BackfillError as error:
            return replace(history, uncounted=str(error))

    def verify(self, run: str | None = None, *, full: bool = False) -> "Verification":
        """Check a run's records against the database. Changes nothing.

        Args:
            run: the run.
            full: read whole tables instead of indexes: slow, but not misled by a damaged index.

        Raises:
            UsageError: there is no such run.
            HostError: this role can't see all of the host's rows.
        """
        return self._verifier(self.parts.engine, found := self.run(run), full=full).verify(found)

    def verify_on_standby(self, run: str | None = None, *, full: bool = False) -> "tuple[Server, Run, Verification]":
        """Verify on the standby of BACKFILL_REPLICA_URL, once it has caught up.

        Return the server, the run as the standby has it, and the verification.

        Raises:
            UsageError, HostError: see `verify`.
            UnverifiedError: the standby cancelled the same read repeatedly, or is too far behind.
        """
        from backfill_tasks.replica import standby

        with standby(self.settings, self.parts.engine) as replica:
            server, seen = replica.catch_up(self.run(run), seconds=_CATCH_UP_SECONDS)
            return server, seen, self._verifier(replica.engine, seen, full=full).verify(seen)

    # ---- the fleet and the host

    def pressure(self) -> list[Reading]:
        """Measure every indicator, whether pages use it or not, including those of every backfill's queue."""
        return [reading for _, reading in self.observer.pressure()]

    def rate(self) -> Rate:
        """Return the rate of all workers together; if Redis has none yet, the rate with which workers will start."""
        return current_rate(redis_client.connect(self.settings.redis_url, patience=0), self.settings)

    def set_rate(self, rate: Rate) -> Rate:
        """Set the rate of all workers together, and return the previous one.

        Raises:
            UsageError: the rate is so low that waiting pages would be redelivered before they start.
        """
        from backfill_tasks.worker.fleet import require_room

        require_room(rate)
        return self._set_rate(rate)

    def drain(self, url: str, *, allow_http: bool = False, **options: Any) -> "Overview":
        """Have the workers call the host's cron route while our jobs are due; an active drain gets these orders.

        The options are those of `backfill drain`: `every` (seconds), `parallel`, `until_done`, `max_failure_rate` (a
        share from 0 to 1, or None) and `max_live_wait` (seconds). The workers have the secret: BACKFILL_CRON_SECRET.

        Args:
            url: the URL of the route. It may contain no secret.
            allow_http: accept http:// to other machines, over which the secret travels in clear.
            options: see above; omitted ones get their defaults.

        Raises:
            UsageError: the URL or an option is invalid.
        """
        from backfill_tasks.drain import ledger as drain_ledger
        from backfill_tasks.drain.orders import Orders

        live_wait = self.settings.defaults["max_live_wait"]
        orders = Orders.given(url, allow_http=allow_http, **{"max_live_wait": live_wait, **options})
        self.require_ledger(to_write=True)
        with self.parts.engine.begin() as connection:
            drain_ledger.start(connection, orders, who=ledger.who())
        return self.drain_status()

    def stop_drain(self) -> "Overview":
        """Stop the drain. Calls in flight end on their own, and count.

        Raises:
            UsageError: it isn't on.
        """
        from backfill_tasks.drain import ledger as drain_ledger

        self.require_ledger(to_write=True)
        with self.parts.engine.begin() as connection:
            if not drain_ledger.stop(connection, "by_command", "stopped by command", who=ledger.who()):
                raise UsageError("the drain is not on: `backfill drain --status` says why")
        return self.drain_status()

    def drain_status(self) -> "Overview":
        """Return whether the drain is on, what it does and why, and what has come of it."""
        self.require_ledger()
        return self.observer.drain()

    def require_room(self, rate: Rate | None, *, lanes: int) -> Rate | None:
        """Check, before this many lanes are seeded, that the rate is high enough.

        If a rate is given, set it and return the previous one.

        Raises:
            UsageError: the rate is so low that waiting pages would be redelivered before they start.
        """
        from backfill_tasks.worker.fleet import require_room

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

    def _set_rate(self, new: Rate) -> Rate:
        redis = redis_client.connect(self.settings.redis_url, patience=0)
        before = FleetRate(redis, self.settings.queue).set(new) or initial_rate(self.settings)
        if before != new and self.settings.database_url is not None:
            self.parts.runs.note_all("rate", {"rate": [before.text, new.text]})
        return before

    def _verifier(self, engine: Engine, run: Run, *, full: bool) -> "Verifier":
        from backfill_tasks.engine.verification import Verifier

        backfill = self.parts.backfills[run.parameters.backfill]
        return Verifier(engine, backfill, self.settings.statement_timeout_ms, full)


def _require_alternative(backfill: "Backfill", changes: Mapping[str, Any]) -> dict[str, Any]:
    from backfill_tasks.forecast.what_if import require_alternative

    return require_alternative(backfill, changes)


def _send(message: PageMessage, delay: float) -> None:
    from backfill_tasks.worker.tasks import send

    send(message, delay)


def _send_batch(message: "ScoreMessage", delay: float) -> None:
    from backfill_tasks.worker.scoring import send

    send(message, delay)
