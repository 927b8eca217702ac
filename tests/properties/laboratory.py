"""A real PostgreSQL and a real Redis, filled by each example; the test itself is the broker."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from random import Random
from typing import Any, LiteralString, NamedTuple

import psycopg
import pytest
from harness import UNBOUNDED, wait_for
from properties import oracle
from properties.hosts import Host, Order
from properties.oracle import Fate, Snapshot, Span
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from redis import Redis
from sqlalchemy import event
from unbounded import only

from backfill_tasks import settings
from backfill_tasks.engine import dry_run, schema, verification
from backfill_tasks.engine.chain import Step
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.dry_run import DryRun
from backfill_tasks.engine.ledger import NewRun
from backfill_tasks.engine.model import Bounds, Lane, PageMessage, Run, RunId
from backfill_tasks.engine.page import statement
from backfill_tasks.engine.runs import cut, new_id
from backfill_tasks.engine.verification import Verification, Verifier
from backfill_tasks.options import Parameters
from backfill_tasks.wiring import Parts, assemble
from sandbox.host.sample import TABLES, create_schema

STATEMENT_MS = 15_000

_REFUSING = """
CREATE TABLE refused (lead text PRIMARY KEY);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM refused WHERE lead = to_jsonb(NEW) ->> TG_ARGV[0]) THEN
    RAISE check_violation USING MESSAGE = 'this lead is refused';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON "Lead" FOR EACH ROW EXECUTE FUNCTION refuse('id');
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON "BackgroundJob" FOR EACH ROW EXECUTE FUNCTION refuse('leadId');
"""


@dataclass
class Broker:
    """The messages in flight; the test decides on their delivery."""

    waiting: list[PageMessage] = field(default_factory=list)
    sent: list[PageMessage] = field(default_factory=list)

    def send(self, message: PageMessage, _delay: float) -> None:
        self.waiting.append(message)
        self.sent.append(message)


class Page(NamedTuple):
    """A page in the ledger."""

    lane: int
    number: int
    lower: str | None
    cursor: str
    counts: dict[str, int]


@dataclass(frozen=True)
class Observed:
    """A run, with the database before and after it."""

    before: Snapshot
    after: Snapshot
    passed: list[str]
    span: Span
    run: Run

    def fates(self, order: Order) -> dict[str, Fate]:
        """Return the expected fate of every lead that the run passed."""
        return oracle.fates(self.before, order.rules, self.passed)

    def differences(self, order: Order) -> list[str]:
        """Return the differences between the database and the run's expected result."""
        return oracle.differences(self.before, self.after, self.fates(order), self.span, delay_ms=order.delay_ms)


@dataclass(repr=False)
class Laboratory:
    """A database with a ledger and a Redis, emptied and filled for each example."""

    database_url: str
    redis_url: str
    broker: Broker = field(default_factory=Broker)

    def __repr__(self) -> str:
        return "Laboratory()"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:  # noqa: FBT001  Hypothesis asks for it
        printer.text(repr(self))

    # ------------------------------------------------------------ the servers

    @cached_property
    def parts(self) -> Parts:
        """The engine, connected as in a worker, with this broker in place of Celery's."""
        values = {**UNBOUNDED, "DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        return assemble(settings.load(values), self.send)

    @cached_property
    def backfill(self) -> Backfill:
        return self.parts.backfills["lead-scoring"]

    @cached_property
    def host_connection(self) -> "psycopg.Connection[Any]":
        """The host's connection, in autocommit."""
        return psycopg.connect(self.database_url, autocommit=True)

    @cached_property
    def redis(self) -> Redis:
        return Redis.from_url(self.redis_url, decode_responses=True)

    def send(self, message: PageMessage, delay: float) -> None:
        self.broker.send(message, delay)

    def prepare(self) -> None:
        """Create the host's tables and the ledger."""
        create_schema(self.host_connection)
        with self.parts.engine.begin() as connection:
            schema.migrate(connection)

    def close(self) -> None:
        self.parts.engine.dispose()
        self.host_connection.close()
        self.redis.close()

    # ------------------------------------------------------------ the host's rows

    def load(self, host: Host, *, keep_redis: bool = False) -> Snapshot:
        """Empty everything, and fill the host's tables. `keep_redis` spares Redis, for a worker that uses it."""
        self.broker = Broker()
        if not keep_redis:
            self.redis.flushdb()
        with self.host_connection.transaction():
            self.host_connection.execute("DELETE FROM backfill.run")
            for table in reversed(TABLES):
                self.host_connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            for table in TABLES:
                self.insert(table, host.tables[table])
        return self.snapshot()

    def insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows in one statement, in their order."""
        if not rows:
            return
        name = sql.Identifier(table)
        columns = sql.SQL(", ").join(map(sql.Identifier, rows[0]))
        self.host_connection.execute(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM jsonb_populate_recordset(NULL::{}, %s)").format(
                name, columns, columns, name
            ),
            [Jsonb(rows, dumps=lambda value: json.dumps(value, default=datetime.isoformat))],
        )

    def update(self, table: str, row: str, **values: object) -> None:
        """Change some columns of one row."""
        assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in values)
        statement = sql.SQL("UPDATE {} SET {} WHERE id = %s").format(sql.Identifier(table), assignments)
        self.host_connection.execute(statement, [*values.values(), row])

    def delete(self, table: str, row: str) -> None:
        """Delete one row and its dependent rows."""
        self.host_connection.execute(sql.SQL("DELETE FROM {} WHERE id = %s").format(sql.Identifier(table)), [row])

    def snapshot(self) -> Snapshot:
        """Return every row of every table outside the ledger."""
        with self.host_connection.transaction(), self.host_connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'refused'")
            tables = {}
            for table in [row["tablename"] for row in cursor]:
                cursor.execute(sql.SQL("SELECT * FROM {} ORDER BY id").format(sql.Identifier(table)))
                tables[table] = {row["id"]: row for row in cursor}
            return Snapshot(tables)

    def lose_ledger_and_redis(self) -> None:
        """Lose the ledger, Redis and every message."""
        self.broker = Broker()
        self.redis.flushdb()
        self.host_connection.execute("DELETE FROM backfill.run")

    @contextmanager
    def refusing(self, leads: Sequence[str]) -> Iterator[None]:
        """Make the database refuse every score and job of these leads while the block runs."""
        self.host_connection.execute(_REFUSING)
        self.insert("refused", [{"lead": lead} for lead in leads])
        try:
            yield
        finally:
            self.host_connection.execute("DROP TABLE refused; DROP FUNCTION refuse CASCADE")

    def candidates(self, host: Snapshot, order: Order, bounds: Bounds) -> list[str]:
        """Return the leads within bounds that a run selects if they have an inbound message."""
        fated = oracle.fates(host, order.rules, self.after(bounds.lower, bounds.upper))
        return [lead for lead, what in fated.items() if what not in {"another_workspace", "already_scored"}]

    def after(self, cursor: str | None, upper: str | None = None) -> list[str]:
        """Return the leads after a cursor, up to an upper bound, in the database's own order."""
        statement = """SELECT id FROM "Lead" WHERE (%(cursor)s::text IS NULL OR id > %(cursor)s::text)
            AND (%(upper)s::text IS NULL OR id <= %(upper)s::text) ORDER BY id"""
        found = self.host_connection.execute(statement, {"cursor": cursor, "upper": upper})
        return [lead for (lead,) in found]

    def now(self) -> datetime:
        """Return the database's time in the host's format."""
        found = self.host_connection.execute("SELECT clock_timestamp() AT TIME ZONE 'UTC'").fetchone()
        assert found is not None
        moment: datetime = found[0]
        return moment

    # ------------------------------------------------------------ runs

    def runs_in_the_ledger(self) -> int:
        return self._number("SELECT count(*) FROM backfill.run")

    def keys_kept_for_ever(self) -> list[str]:
        """Return Redis' keys without an expiry."""
        return [key for key in self.redis.scan_iter() if self.redis.ttl(key) == -1]

    def pages_done(self) -> int:
        return self._number("SELECT count(*) FROM backfill.page")

    def _number(self, statement: LiteralString) -> int:
        found = self.host_connection.execute(statement).fetchone()
        assert found is not None
        return int(found[0])

    def quarantined(self, run: RunId) -> set[str]:
        """Return the leads in a run's quarantine."""
        found = self.host_connection.execute("SELECT item FROM backfill.quarantine WHERE run_id = %s", [run])
        return {lead for (lead,) in found}

    def pages(self, run: RunId) -> list[Page]:
        """Return a run's pages in the ledger, lane by lane, in order."""
        statement = (
            "SELECT lane, number, lower, cursor, counts FROM backfill.page WHERE run_id = %s ORDER BY lane, number"
        )
        return [Page(*row) for row in self.host_connection.execute(statement, [run])]

    def cut(self, order: Order) -> tuple[Lane, ...]:
        """Return the lanes of a run."""
        return cut(self.parts.engine, self.backfill, parameters(order), smallest=1)

    def dry_run(self, order: Order, *, single_batch: bool = False) -> Run:
        """Complete a dry run."""
        dry = DryRun(
            engine=self.parts.engine,
            backfill=self.backfill,
            parameters=parameters(order),
            run=new_id(),
            lanes=self.cut(order),
            statement_ms=STATEMENT_MS,
            single_batch=single_batch,
        )
        with looking_at(order.rows), dry.walking():
            ended = wait_for(lambda: _ended(dry.read()), what="the dry run to end")
        assert ended is not None
        return ended

    def start(self, order: Order, *, single_batch: bool = False, ordinal: int = 0) -> RunId:
        """Start a run; its first messages wait in the broker."""
        new = NewRun(new_id(), parameters(order), self.cut(order), single_batch=single_batch, ordinal=ordinal)
        return self.parts.runs.start(new, force=True)

    def deliver(self, message: PageMessage) -> Step:
        """Deliver a message to a worker."""
        return self.parts.chain.step(message)

    @contextmanager
    def while_a_page_is_at_work(self, act: Callable[[], None]) -> Iterator[None]:
        """Call `act` once, after the next page's statement and before its commit."""
        acted: list[bool] = []

        def happens(*details: Any) -> None:
            if not acted and "BackgroundJob" in details[2]:
                acted.append(True)
                act()

        event.listen(self.parts.engine, "after_cursor_execute", happens)
        try:
            yield
        finally:
            event.remove(self.parts.engine, "after_cursor_execute", happens)

    def drain(self, order: Order, random: Random | None = None) -> None:
        """Deliver all messages: in random order with a generator, otherwise the oldest first."""
        with looking_at(order.rows):
            while self.broker.waiting:
                index = random.randrange(len(self.broker.waiting)) if random else 0
                self.deliver(self.broker.waiting.pop(index))

    def run(self, order: Order, random: Random | None = None, *, ordinal: int = 0) -> Run:
        """Complete a run and return its final state."""
        run = self.start(order, ordinal=ordinal)
        self.drain(order, random)
        return self.parts.runs.read(run)

    def observe(self, order: Order, run: Callable[[], Run]) -> Observed:
        """Take a snapshot of the database before and after a run of this order."""
        before, passed, began = self.snapshot(), self.after(order.cursor), self.now()
        ended = run()
        return Observed(before, self.snapshot(), passed, Span(began, self.now()), ended)

    def verify(self, run: Run, *, rows: int) -> Verification:
        """Return the verification of a run."""
        with looking_at(rows):
            return Verifier(self.parts.engine, self.backfill, STATEMENT_MS).verify(run)


def _ended(run: Run) -> Run | None:
    return None if run.state == "running" else run


def parameters(order: Order) -> Parameters:
    """Return the order as the engine's parameters."""
    return Parameters(
        backfill="lead-scoring",
        limit=order.limit,
        lanes=order.lanes,
        cursor=order.cursor,
        options={
            "client_ids": None if order.client_ids is None else list(order.client_ids),
            "rescore_all": order.rescore_all,
            "delay_ms": order.delay_ms,
        },
        pace=only(),
    )


@contextmanager
def looking_at(rows: int) -> Iterator[None]:
    """Bound the rows that a page reads, so that even a small table counts as sparse."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (statement, dry_run, verification):
            patch.setattr(module, "PAGE_ROWS", rows)
        yield
