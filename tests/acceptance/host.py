"""A host database for tests: act as the host, and check the contents."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from harness import wait_for
from psycopg import sql
from psycopg.rows import dict_row

from sandbox.host.sample import Sample, create_schema, fill

CLASSES = ("inserted", "requeued", "refreshed", "in_flight", "disqualified")

DISQUALIFYING = ("Blacklist", "Opt Out", "Opted Out", "Unsubscribe", "Unsubscribed", "Bounced", "Bounce")

_KEEP = """
CREATE SCHEMA kept;
CREATE TABLE kept."Lead" AS TABLE "Lead";
CREATE TABLE kept."Message" AS TABLE "Message";
CREATE TABLE kept."BackgroundJob" AS TABLE "BackgroundJob";
"""

_RESTORE = """
DROP SCHEMA IF EXISTS backfill CASCADE;
DROP SCHEMA IF EXISTS fault CASCADE;
DELETE FROM "BackgroundJob";
INSERT INTO "BackgroundJob" TABLE kept."BackgroundJob";
DELETE FROM "Message" WHERE id NOT IN (SELECT id FROM kept."Message");
UPDATE "Lead" AS lead
SET
  "fitScore" = was."fitScore",
  "intentScore" = was."intentScore",
  "overallScore" = was."overallScore",
  "scoredAt" = was."scoredAt",
  "scoreReasoning" = was."scoreReasoning",
  "lastInboundAt" = was."lastInboundAt",
  "lastOutboundAt" = was."lastOutboundAt",
  "lastZrgOutboundAt" = was."lastZrgOutboundAt",
  "lastMessageAt" = was."lastMessageAt",
  "lastMessageDirection" = was."lastMessageDirection",
  "status" = was."status",
  "companyName" = was."companyName"
FROM kept."Lead" AS was
WHERE was.id = lead.id AND lead IS DISTINCT FROM was;
"""

_REMEMBER = """
CREATE SCHEMA undo;
CREATE TABLE undo.job AS TABLE "BackgroundJob";
CREATE TABLE undo.page AS TABLE backfill.page;
CREATE TABLE undo.lane AS TABLE backfill.lane;
CREATE TABLE undo.quarantine AS TABLE backfill.quarantine;
CREATE TABLE undo.score AS SELECT id, "overallScore", "scoredAt" FROM "Lead";
"""

_UNDO = """
DELETE FROM backfill.page;
DELETE FROM backfill.lane;
DELETE FROM "BackgroundJob";
INSERT INTO "BackgroundJob" TABLE undo.job;
INSERT INTO backfill.lane TABLE undo.lane;
INSERT INTO backfill.page TABLE undo.page;
DELETE FROM backfill.quarantine;
INSERT INTO backfill.quarantine TABLE undo.quarantine;
UPDATE "Lead" SET "overallScore" = score."overallScore", "scoredAt" = score."scoredAt"
FROM undo.score
WHERE
  score.id = "Lead".id
  AND ("Lead"."overallScore", "Lead"."scoredAt") IS DISTINCT FROM (score."overallScore", score."scoredAt");
DROP SCHEMA undo CASCADE;
"""

_TABLES = """
SELECT table_schema AS schema, table_name AS name
FROM information_schema.tables
WHERE table_schema NOT IN ('kept', 'pg_catalog', 'information_schema')
"""

_REFUSE = """
CREATE SCHEMA fault;
CREATE FUNCTION fault.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no job for this lead' USING ERRCODE = TG_ARGV[0]; END $$;
"""

_REFUSE_LEAD = """
CREATE TRIGGER refuse BEFORE INSERT ON "BackgroundJob" FOR EACH ROW
WHEN (NEW."leadId" = {lead}) EXECUTE FUNCTION fault.refuse({sqlstate})
"""

_REFUSE_ROLLUPS = """
CREATE TRIGGER refuse BEFORE UPDATE OF "lastMessageAt" ON "Lead" FOR EACH ROW
WHEN (NEW.id = {lead}) EXECUTE FUNCTION fault.refuse('23514')
"""


@dataclass(frozen=True)
class Host:
    """A host database with a pristine copy of its rows, so that changes can be detected and undone."""

    url: str
    sample: Sample

    # ---- acting

    def keep(self) -> None:
        """Copy the current rows."""
        self.execute(_KEEP)

    def restore(self) -> None:
        """Restore the rows that a run changes, and remove the ledger."""
        self.execute(_RESTORE)

    def execute(self, script: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(script.encode())

    def refuse_job_of(self, lead: str, *, sqlstate: str) -> None:
        """Make a trigger of the host refuse one lead's job."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(_REFUSE.encode())
            literals = {"lead": sql.Literal(lead), "sqlstate": sql.Literal(sqlstate)}
            connection.execute(sql.SQL(_REFUSE_LEAD).format(**literals))

    def refuse_rollups_of(self, lead: str) -> None:
        """Make a trigger of the host refuse one lead's roll-ups."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(_REFUSE.encode())
            connection.execute(sql.SQL(_REFUSE_ROLLUPS).format(lead=sql.Literal(lead)))

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo the block's changes to jobs, scores and ledger at its end."""
        self.execute(_REMEMBER)
        yield
        self.execute(_UNDO)

    @contextmanager
    def locked(self, table: str, mode: str) -> Iterator[None]:
        """Lock a table while the block runs."""
        with psycopg.connect(self.url) as connection:
            connection.execute(sql.SQL(f"LOCK TABLE {table} IN {mode} MODE"))
            yield

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep a session of the host busy while the block runs."""
        at_work = "SELECT FROM pg_stat_activity WHERE pid = %(pid)s AND state = 'active'"
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            connection.pgconn.send_query(b"SELECT pg_sleep(600)")
            wait_for(lambda: self.rows(at_work, pid=connection.info.backend_pid), what="the session to be at work")
            try:
                yield
            finally:
                connection.cancel_safe()

    def wait_until_somebody_waits(self) -> None:
        """Wait until a statement waits for a lock."""
        waiting = (
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND application_name = 'backfill'"
        )
        wait_for(lambda: self.rows(waiting), what="a statement to wait for a lock")

    def cut_connections(self) -> None:
        """End all of the tool's connections, like a server restart."""
        self.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'backfill'"
        )

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Refuse new connections and end the tool's while the block runs, like a server restart."""
        server, _, name = self.url.rpartition("/")
        with psycopg.connect(f"{server}/postgres", autocommit=True) as elsewhere:
            elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            elsewhere.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            try:
                yield
            finally:
                elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())

    def wait_for_pages(self, number: int) -> None:
        """Wait until the ledger has this many pages."""
        self.wait_for_a_run()
        wait_for(lambda: len(self.rows("SELECT FROM backfill.page")) >= number, what=f"{number} pages")

    def wait_for_a_run(self) -> None:
        """Wait until the ledger has a run."""
        wait_for(self.has_ledger, what="the ledger")
        wait_for(lambda: self.rows("SELECT FROM backfill.run"), what="a run in the ledger")

    # ---- checking

    def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def column(self, query: str, **parameters: object) -> list[Any]:
        """Return the only column of a query."""
        return [next(iter(row.values())) for row in self.rows(query, **parameters)]

    def contents(self) -> dict[str, str]:
        """Return a checksum of each table's contents."""
        found = {}
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as connection:
            for table in connection.execute(_TABLES.encode()).fetchall():
                checksum = sql.SQL(
                    "SELECT md5(coalesce(string_agg(row::text, ',' ORDER BY row::text), '')) AS sum FROM {} AS row"
                ).format(sql.Identifier(table["schema"], table["name"]))
                (row,) = connection.execute(checksum).fetchall()
                found[f"{table['schema']}.{table['name']}"] = row["sum"]
        return found

    def has_ledger(self) -> bool:
        return bool(self.rows("SELECT FROM pg_class WHERE oid = to_regclass('backfill.run')"))

    def workspaces(self) -> list[str]:
        """Return the workspaces' ids, the one with the most leads first."""
        return self.column('SELECT "clientId" FROM "Lead" GROUP BY 1 ORDER BY count(*) DESC, 1')

    def middle(self) -> str:
        """Return the id of the lead in the middle."""
        half = 'SELECT id FROM "Lead" ORDER BY id LIMIT 1 OFFSET (SELECT count(*) / 2 FROM "Lead")'
        (lead,) = self.column(half)
        return str(lead)

    def lead_without_job(self) -> str:
        """Return a lead for which a run creates a job."""
        return self.leads_without_job()[0]

    def leads_without_job(self) -> list[str]:
        """Return the leads for which a run creates jobs, by id."""
        return self.column(
            """
            SELECT lead.id FROM "Lead" AS lead
            WHERE lead."overallScore" IS NULL
              AND lead."sentimentTag" IS NULL
              AND EXISTS (SELECT FROM "Message" WHERE "leadId" = lead.id AND direction = 'inbound')
              AND NOT EXISTS (
                SELECT FROM kept."BackgroundJob" AS job WHERE job."dedupeKey" = 'lead_scoring_backfill:' || lead.id
              )
            ORDER BY lead.id
            """
        )

    def due(self, *, after: str = "", workspaces: list[str] | None = None, scored: bool = False) -> set[str]:
        """Return the leads of the kept copy that a run must change: disqualified, or without a RUNNING job."""
        return set(
            self.column(
                """
                SELECT lead.id FROM kept."Lead" AS lead
                WHERE lead.id > %(after)s
                  AND (%(workspaces)s::text[] IS NULL OR lead."clientId" = ANY (%(workspaces)s))
                  AND (lead."overallScore" IS NULL OR %(scored)s)
                  AND EXISTS (SELECT FROM "Message" WHERE "leadId" = lead.id AND direction = 'inbound')
                  AND (lead."sentimentTag" = ANY (%(disqualifying)s) OR NOT EXISTS (
                    SELECT FROM kept."BackgroundJob" AS job
                    WHERE job."dedupeKey" = 'lead_scoring_backfill:' || lead.id AND job.status = 'RUNNING'
                  ))
                """,
                after=after,
                workspaces=workspaces,
                scored=scored,
                disqualifying=list(DISQUALIFYING),
            )
        )

    def changed(self) -> set[str]:
        """Return the leads that differ from the kept copy in their row or their job."""
        return set(
            self.column(
                """
                SELECT id FROM (TABLE "Lead" EXCEPT TABLE kept."Lead") AS lead
                UNION
                SELECT "leadId" FROM (TABLE "BackgroundJob" EXCEPT TABLE kept."BackgroundJob") AS job
                """
            )
        )

    def due_times(self, *, since: datetime) -> list[datetime]:
        """Return the due times of the jobs enqueued since a moment (UTC, without a zone), in order."""
        return self.column(
            """
            SELECT "runAt" FROM "BackgroundJob"
            WHERE starts_with("dedupeKey", 'lead_scoring_backfill:') AND "updatedAt" >= %(since)s
            ORDER BY "runAt"
            """,
            since=since,
        )


def make_host(url: str, leads: int = 2_000, *, schema: str = "public") -> Host:
    """Fill an empty database with every kind of lead, tag and job."""
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection, schema)
        return Host(url, fill(connection, leads, schema=schema))
