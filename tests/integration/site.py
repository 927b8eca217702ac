"""A host database with a ledger, and the engine connected to it; the test plays Celery's part."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import psycopg
from harness import UNBOUNDED, wait_for
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from sqlalchemy import Engine
from unbounded import only

from backfill_tasks import settings
from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.engine import schema
from backfill_tasks.engine.chain import Step
from backfill_tasks.engine.contract import PageContext
from backfill_tasks.engine.cursors import LiveCursors
from backfill_tasks.engine.ledger import NewRun
from backfill_tasks.engine.model import Bounds, PageMessage, PageResult, Run, RunId, Window
from backfill_tasks.engine.page.statement import PAGE_ROWS
from backfill_tasks.engine.runs import Runs, cut, new_id
from backfill_tasks.engine.verification import Verification, Verifier
from backfill_tasks.engine.watchdog import Watchdog
from backfill_tasks.options import Pace, Parameters
from backfill_tasks.wiring import Parts, assemble
from sandbox.host.sample import TABLES, create_schema

Row = dict[str, Any]
Session = psycopg.Connection[DictRow]

CLASSES = tuple(LeadScoring.classes)
STATEMENT_MS = 15_000
NOON = datetime(2026, 1, 1, 12)  # noqa: DTZ001  the host's columns are UTC without a time zone
STARTED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
OUR_KEY = "lead_scoring_backfill:"


@dataclass(frozen=True)
class Host:
    """The host application: writes and reads its tables. Every statement commits."""

    url: str

    @cached_property
    def connection(self) -> Session:
        return psycopg.connect(self.url, autocommit=True, row_factory=dict_row)

    def refuse_jobs_of(self, *leads: str, saying: str = "no job for this lead") -> None:
        """Make the database refuse the jobs of these leads only, as a host's trigger may: see `strict_site`."""
        self.do("CREATE TABLE IF NOT EXISTS refused (lead text PRIMARY KEY)")
        self.do("DELETE FROM refused")
        for lead in leads:
            self.do("INSERT INTO refused VALUES (%s)", lead)
        self.do(
            f"""
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              IF EXISTS (SELECT FROM refused WHERE lead = NEW."leadId") THEN
                RAISE EXCEPTION '{saying}' USING ERRCODE = '23514';
              END IF;
              RETURN NEW;
            END $$
            """
        )
        self.do(
            'CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON "BackgroundJob" FOR EACH ROW EXECUTE FUNCTION refuse()'
        )

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Yield another session of the host; the test ends its transaction."""
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            yield connection

    @contextmanager
    def unindexed(self, table: str) -> Iterator[Session]:
        """Yield a session whose writes reach no index of this table; the indexes stay damaged."""
        ready = "UPDATE pg_index SET indisready = %s WHERE indrelid = %s::regclass"
        with psycopg.connect(self.url, autocommit=True) as other:
            other.execute(ready, (False, f'"{table}"'))
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as session:
            yield session
            session.execute(ready, (True, f'"{table}"'))

    def add_client(self, client: str) -> None:
        self._insert("Client", [{"id": client, "name": client, "userId": "user", "updatedAt": NOON}])

    def add_leads(self, *leads: str, inbound: int = 1, **columns: Any) -> None:
        """Add leads, each with `inbound` inbound messages; the newest is `<lead>/<inbound>`."""
        shared = {"clientId": "client-1", "updatedAt": NOON, "createdAt": NOON, **columns}
        self._insert("Lead", [{"id": lead, **shared} for lead in leads])
        messages = [self._message(lead, number) for lead in leads for number in range(1, inbound + 1)]
        self._insert("Message", messages)

    def add_message(self, message: str, lead: str, **columns: Any) -> None:
        self._insert("Message", [{**self._message(lead, 0), "id": message, **columns}])

    def add_job(self, lead: str, status: str, **columns: Any) -> None:
        """Add a lead's job as an earlier run left it, with every column filled."""
        job = {
            "id": f"job-{lead}",
            "type": "LEAD_SCORING_POST_PROCESS",
            "status": status,
            "dedupeKey": OUR_KEY + lead,
            "clientId": "client-1",
            "leadId": lead,
            "messageId": f"{lead}/1",
            "runAt": NOON,
            "attempts": 2,
            "maxAttempts": 3,
            "lockedAt": NOON,
            "lockedBy": "runner-1",
            "startedAt": NOON,
            "finishedAt": NOON,
            "lastError": "429 Too Many Requests",
            "createdAt": NOON,
            "updatedAt": NOON,
        }
        self._insert("BackgroundJob", [{**job, **columns}])

    def do(self, statement: str, *values: Any) -> None:
        self.connection.execute(statement.encode(), values)

    def rows(self, statement: str, *values: Any) -> list[Row]:
        return self.connection.execute(statement.encode(), values).fetchall()

    def values(self, statement: str, *values: Any) -> list[Any]:
        """Return the first column of a query."""
        return [next(iter(row.values())) for row in self.rows(statement, *values)]

    def lead(self, lead: str) -> Row:
        (row,) = self.rows('SELECT * FROM "Lead" WHERE id = %s', lead)
        return row

    def job(self, lead: str) -> Row | None:
        """Return the backfill's job of a lead."""
        return next(iter(self.rows('SELECT * FROM "BackgroundJob" WHERE "dedupeKey" = %s', OUR_KEY + lead)), None)

    def enqueued(self) -> list[str]:
        """Return the leads that have a job of the backfill, one entry per job."""
        statement = 'SELECT "leadId" FROM "BackgroundJob" WHERE starts_with("dedupeKey", %s) ORDER BY "leadId"'
        return self.values(statement, OUR_KEY)

    def versions(self) -> dict[tuple[str, str], Row]:
        """Return each row of the host's tables with the transaction that wrote it, by table and id.

        Two results are equal if no row was written between them, not even with the same values.
        """
        found: dict[tuple[str, str], Row] = {}
        for table in TABLES:
            statement = sql.SQL("SELECT xmin::text, to_jsonb(each) AS row FROM {} AS each").format(
                sql.Identifier(table)
            )
            found |= {(table, row["row"]["id"]): row for row in self.connection.execute(statement)}
        return found

    def finish_jobs(self, number: int) -> None:
        """Act as the runner: finish the backfill's `number` oldest jobs."""
        statement = (
            """UPDATE "BackgroundJob" SET status = 'SUCCEEDED' WHERE id IN (SELECT id FROM "BackgroundJob" """
            """WHERE starts_with("dedupeKey", %s) AND status = 'PENDING' ORDER BY "runAt" LIMIT %s)"""
        )
        self.do(statement, OUR_KEY, number)

    def due_times(self) -> list[datetime]:
        """Return when the backfill's jobs come due, in order, in UTC without a time zone."""
        return self.values(
            'SELECT "runAt" FROM "BackgroundJob" WHERE starts_with("dedupeKey", %s) ORDER BY "runAt"', OUR_KEY
        )

    def events(self, name: str) -> list[Row]:
        """Return the ledger's events of this name, oldest first."""
        return self.rows("SELECT * FROM backfill.event WHERE name = %s ORDER BY id", name)

    def wait_until_blocked(self) -> None:
        """Wait until a session of this database waits for another session's lock."""
        statement = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pg_blocking_pids(pid) <> '{}'"
        )
        wait_for(lambda: self.rows(statement), what="a session to wait for a lock")

    def close(self) -> None:
        self.connection.close()

    def _message(self, lead: str, number: int) -> Row:
        sent = NOON + timedelta(minutes=number)
        row = {"id": f"{lead}/{number}", "leadId": lead, "direction": "inbound", "body": "Hello"}
        return {**row, "sentAt": sent, "createdAt": sent}

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, rows[0])),
            sql.SQL(", ").join(map(sql.Placeholder, rows[0])),
        )
        with self.connection.cursor() as cursor:
            cursor.executemany(statement, rows)


@dataclass(frozen=True)
class Site:
    """The engine on a host database. Messages that it sends wait in `waiting` until the test delivers them."""

    url: str
    redis_url: str
    variables: Mapping[str, str] = field(default_factory=dict)
    waiting: list[PageMessage] = field(default_factory=list)

    @cached_property
    def host(self) -> Host:
        return Host(self.url)

    @cached_property
    def settings(self) -> settings.Settings:
        return settings.load({**UNBOUNDED, "DATABASE_URL": self.url, "REDIS_URL": self.redis_url, **self.variables})

    @cached_property
    def parts(self) -> Parts:
        return assemble(self.settings, self._send)

    @property
    def engine(self) -> Engine:
        return self.parts.engine

    @property
    def runs(self) -> Runs:
        return self.parts.runs

    @property
    def watchdog(self) -> Watchdog:
        return self.parts.watchdog

    @property
    def live(self) -> LiveCursors:
        return self.parts.chain.live

    def with_settings(self, **variables: str) -> "Site":
        """Return the same database as seen by another worker with other settings."""
        return Site(self.url, self.redis_url, variables, self.waiting)

    def create(self) -> None:
        """Create the host's tables and the ledger."""
        create_schema(self.host.connection)
        self.migrate()

    def restore(self) -> None:
        """Empty the host, except for one workspace, and the ledger."""
        self.waiting.clear()
        for table in (
            "backfill.run",
            "backfill.bound",
            "backfill.scoring",
            "backfill.drain",
            "backfill.drain_call",
            "backfill.drain_total",
            "backfill.event",
            *(f'"{name}"' for name in reversed(TABLES)),
        ):
            self.host.do(f"DELETE FROM {table}")
        self.host.add_client("client-1")

    def migrate(self) -> None:
        with self.engine.begin() as connection:
            schema.migrate(connection)

    def page(
        self,
        *,
        lower: str | None = None,
        upper: str | None = None,
        limit: int = 500,
        rows: int = PAGE_ROWS,
        ordinal: int = 0,
        **options: Any,
    ) -> PageResult:
        """Do one page of the backfill without the engine, and commit it."""
        bounds = Bounds(lower, self.last_lead() if upper is None else upper)
        context = PageContext(own_options(**options), STARTED, ordinal)
        with self.engine.begin() as connection:
            return LeadScoring().page(connection, Window(bounds, limit, rows), context)

    def dry_run(self, *, limit: int = 500, rows: int = PAGE_ROWS, **options: Any) -> PageResult:
        """Do one page of a dry run."""
        window = Window(Bounds(None, self.last_lead()), limit, rows)
        with self.engine.begin() as connection:
            return LeadScoring().dry_run(connection, window, PageContext(own_options(**options), STARTED))

    def last_lead(self) -> str:
        (last,) = self.host.values('SELECT max(id) FROM "Lead"')
        return str(last)

    def split(self, *, lanes: int, after: str | None = None, smallest: int = 1, **options: Any) -> list[str]:
        with self.engine.begin() as connection:
            return LeadScoring().split(connection, own_options(**options), after=after, lanes=lanes, smallest=smallest)

    def start(
        self,
        *,
        limit: int = 500,
        lanes: int = 1,
        after: str | None = None,
        single_batch: bool = False,
        page_delay_ms: int = 0,
        pace: Pace | None = None,
        backfill: str = LeadScoring.name,
        force: bool = True,
        **options: Any,
    ) -> Run:
        """Start a run; its first messages wait. Only its pace limits it: even an overlapping run doesn't."""
        known, every = self.parts.backfills[backfill], own_options(**options)
        parameters = Parameters(
            backfill,
            limit,
            lanes,
            after,
            page_delay_ms=page_delay_ms,
            options={each.name: every[each.name] for each in known.options},
            pace=pace or only(),
        )
        cut_lanes = cut(self.engine, known, parameters, smallest=1)
        new = NewRun(new_id(), parameters, cut_lanes, single_batch=single_batch)
        return self.read(self.runs.start(new, force=force))

    def deliver(self) -> Step:
        """Deliver the oldest waiting message."""
        return self.parts.chain.step(self.waiting.pop(0))

    def deliver_all(self) -> None:
        while self.waiting:
            self.deliver()

    def whole_run(self, **parameters: Any) -> Run:
        """Do a run from start to finish."""
        run = self.start(**parameters)
        self.deliver_all()
        return self.read(run.id)

    def read(self, run: RunId) -> Run:
        return self.runs.read(run)

    def verify(self, run: RunId, *, full: bool = False) -> Verification:
        found = self.read(run)
        backfill = self.parts.backfills[found.parameters.backfill]
        return Verifier(self.engine, backfill, STATEMENT_MS, full=full).verify(found)

    def close(self) -> None:
        self.engine.dispose()
        self.host.close()

    def _send(self, message: PageMessage, _delay: float) -> None:
        self.waiting.append(message)


@contextmanager
def read_only(url: str) -> Iterator[None]:
    """Make a database's new sessions read-only while the block runs, as a provider does when the disk is full."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        try:
            yield
        finally:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))


def own_options(*, client_ids: Iterable[str] | None = None, **options: Any) -> Row:
    """Return all options that lead scoring declares."""
    ids = None if client_ids is None else list(client_ids)
    return {**LeadScoring().with_defaults(options), "client_ids": ids}


def classes(result: PageResult) -> dict[str, int]:
    """Return the non-zero classes of a page."""
    return {name: result.counts[name] for name in CLASSES if result.counts[name]}
