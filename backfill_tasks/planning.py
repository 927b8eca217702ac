"""Before a run: the order, its checks, its lanes, and the plan, which counts what the run would do."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from backfill_tasks.engine import schema
from backfill_tasks.engine.connection import driver
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.dry_run import DryRun
from backfill_tasks.engine.encoding import unstorable
from backfill_tasks.engine.model import Bounds, Lane, Run
from backfill_tasks.engine.overlap import Overlap, overlaps, refuse
from backfill_tasks.engine.rate import Rate
from backfill_tasks.engine.runs import cut, lanes_of, new_id
from backfill_tasks.errors import UsageError
from backfill_tasks.forecast.answer import Forecast
from backfill_tasks.forecast.before import expected
from backfill_tasks.forecast.reading import Reader
from backfill_tasks.options import OptionError, Parameters, Values, resolve
from backfill_tasks.registry import KINDS
from backfill_tasks.settings import Settings
from backfill_tasks.wiring import Parts

if TYPE_CHECKING:
    from backfill_tasks.scoring.cost import CostForecast

#: The polling interval of a count, in seconds.
_COUNT_SECONDS = 0.02

#: The assumed speed of a run, in items per second, where none has been measured, for estimating its duration.
_USUAL_RATE = 10_000


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
        seconds: an estimate of how long its pages would take if no bound on jobs held them up.
        forecast: when the last item would have its result; None: the backfill has no jobs.
        cost_forecast: what scoring its leads here would cost; None: no scorer was named.
    """

    run: Run
    jobs: int
    cost: float | None
    seconds: float
    forecast: Forecast | None = None
    cost_forecast: "CostForecast | None" = None


def order(
    settings: Settings, backfill: str, options: Values, *, force: bool = False, single_batch: bool = False
) -> Order:
    """Return the order for a run with these options (docs/reference/options.md); omitted ones get their defaults.

    Raises:
        UsageError: there is no such backfill or option, or an option rejects its value.
    """
    kind = KINDS.choose(backfill)
    try:
        parameters = resolve(kind, asked=options, defaults=settings.defaults_with(kind.options))
    except OptionError as error:
        raise UsageError(str(error)) from None
    except KeyError as error:
        raise UsageError(f"{backfill} has no option {error}") from None
    return Order(parameters, single_batch=single_batch, force=force)


@dataclass(frozen=True)
class Planner:
    """Checks an order, cuts its lanes, and counts what it would do. Writes nothing."""

    settings: Settings
    parts: Parts

    def plan(self, order: Order) -> Plan:
        """Check an order and count what it would do.

        Raises:
            UsageError, HostError: see `check`.
        """
        self.check(order, apply=False)
        with self.counting(order, self.lanes(order)) as counting:
            while (counted := counting.read()).state == "running":
                time.sleep(_COUNT_SECONDS)
        return self.planned(counted)

    def planned(self, counted: Run) -> Plan:
        """Return the plan for a counted run."""
        backfill = self.parts.backfills[counted.parameters.backfill]
        jobs, price = counted.jobs(backfill.jobs), counted.parameters.cost_per_job
        cost = None if price is None else jobs * price
        return Plan(counted, jobs, cost, self._page_seconds(counted), self._forecast(backfill, counted, jobs))

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

    def _forecast(self, backfill: Backfill, counted: Run, jobs: int) -> Forecast | None:
        """Forecast the run from what is known of the host's drain and of our own workers."""
        if not backfill.jobs:
            return None
        with self.parts.engine.begin() as connection:
            has_ledger = schema.version(connection) == schema.latest()
            return expected(Reader(connection, backfill, has_ledger).before(counted.parameters, jobs))

    def _page_seconds(self, counted: Run) -> float:
        """Estimate the duration of a run's pages from the last complete run's speed and the run's pauses."""
        parameters = counted.parameters
        last = self.parts.runs.newest(("complete",), parameters.backfill)
        rate = self.parts.runs.read(last).items_per_second if last else 0.0
        working = counted.counts.get("read", 0) / (rate or _USUAL_RATE)
        pausing = counted.pages / max(1, len(counted.lanes)) * parameters.page_delay_ms / 1000
        return working + pausing


def _require_storable(connection: Connection, order: Order) -> None:
    """Reject a key that the database's encoding can't store: no row can have it, so its place would be a guess."""
    ends = [end for each in order.stretches or () for end in (each.lower, each.upper)]
    encoding = driver(connection).server_encoding
    foreign = unstorable(encoding, [order.parameters.cursor, *ends])
    if foreign is not None:
        raise UsageError(
            f"the cursor {foreign!r} can't be a key of this database, whose encoding {encoding} can't store it"
        )
