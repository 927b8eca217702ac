"""What is refused before a run starts, and what the server refuses."""

import secrets
from collections.abc import Iterator

import pytest
from integration.site import Site, own_options
from psycopg import sql
from sqlalchemy.exc import DBAPIError

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.backfills.message_rollups import MessageRollups
from backfill_tasks.engine.database import begin_read_only, is_permanent, reason, whole_reason
from backfill_tasks.errors import HostError, UsageError

READ = """GRANT SELECT ON "Client", "Message", "Lead", "BackgroundJob" TO {}"""
WRITE = """GRANT UPDATE ON "Lead" TO {}; GRANT INSERT, UPDATE ON "BackgroundJob" TO {}"""

PARTITIONED = """
DROP TABLE public."Message" CASCADE;
CREATE TABLE public."Message" (
  id text NOT NULL, body text NOT NULL, direction text NOT NULL, source text NOT NULL DEFAULT 'zrg',
  "leadId" text NOT NULL REFERENCES public."Lead", "sentAt" timestamp(3) NOT NULL, "createdAt" timestamp(3) NOT NULL,
  PRIMARY KEY (id, "leadId")
) PARTITION BY HASH ("leadId");
CREATE TABLE public.message_0 PARTITION OF public."Message" FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.message_1 PARTITION OF public."Message" FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX ON public."Message" ("leadId", direction, "sentAt");
"""


@pytest.fixture
def stranger(own_site: Site) -> Iterator[str]:
    """Yield a role without any privilege on the host's tables."""
    role = f"backfill_test_{secrets.token_hex(4)}"
    own_site.host.do(f"CREATE ROLE {role}")
    yield role
    own_site.host.do(f"DROP OWNED BY {role}")
    own_site.host.do(f"DROP ROLE {role}")


def check(
    site: Site, *, schema: str = "public", role: str | None = None, apply: bool = True, clients: list[str] | None = None
) -> None:
    with site.engine.begin() as connection:
        if role is not None:
            connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        LeadScoring(schema).check(connection, own_options(client_ids=clients), apply=apply)


def grant(site: Site, statement: str, role: str) -> None:
    site.host.connection.execute(sql.SQL(statement.replace("{}", role)))


class TestHost:
    def test_owner_of_the_tables_is_accepted(self, site: Site) -> None:
        check(site)

    def test_missing_table_is_named(self, own_site: Site) -> None:
        own_site.host.do('ALTER TABLE "Message" RENAME TO "Post"')

        with pytest.raises(HostError, match=r'there is no table "public"\."Message"'):
            check(own_site)

    @pytest.mark.parametrize(
        ("kind", "statement"),
        [
            ("a view", 'CREATE VIEW public."Lead" AS SELECT * FROM "Person" WHERE "overallScore" IS NULL'),
            ("a materialized view", 'CREATE MATERIALIZED VIEW public."Lead" AS SELECT * FROM "Person"'),
            ("a foreign table", 'CREATE FOREIGN TABLE public."Lead" (id text) SERVER far'),
        ],
    )
    def test_view_or_foreign_table_is_refused(self, own_site: Site, kind: str, statement: str) -> None:
        own_site.host.do('ALTER TABLE "Lead" RENAME TO "Person"')
        own_site.host.do("CREATE FOREIGN DATA WRAPPER other")
        own_site.host.do("CREATE SERVER far FOREIGN DATA WRAPPER other")
        own_site.host.do(statement)

        with pytest.raises(HostError, match=rf'"public"\."Lead" is {kind}, which may hide rows'):
            check(own_site)

    def test_partitioned_table_is_accepted(self, own_site: Site) -> None:
        own_site.host.connection.execute(PARTITIONED.encode())
        own_site.host.add_leads("lead-1", "lead-2", "lead-3")

        run = own_site.whole_run()

        assert (run.state, run.counts["inserted"]) == ("complete", 3)
        assert own_site.verify(run.id).clean

    def test_column_grant_is_not_a_table_grant(self, own_site: Site, stranger: str) -> None:
        grant(own_site, READ, stranger)
        grant(own_site, 'REVOKE SELECT ON "Lead" FROM {}; GRANT SELECT (id, "clientId") ON "Lead" TO {}', stranger)

        with pytest.raises(HostError, match=r'may not SELECT all columns of "public"\."Lead": have a DBA run GRANT'):
            check(own_site, role=stranger)

    def test_missing_schema_points_to_database_url(self, site: Site) -> None:
        with pytest.raises(HostError, match=r'"crm"\."Client": DATABASE_URL .* schema parameter'):
            check(site, schema="crm")

    def test_unused_privilege_is_not_required(self, own_site: Site, stranger: str) -> None:
        grant(own_site, """GRANT SELECT ON "Client", "Message", "Lead" TO {}; GRANT UPDATE ON "Lead" TO {}""", stranger)

        with own_site.engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL ROLE {stranger}")
            MessageRollups().check(connection, {"client_ids": None}, apply=True)

    def test_read_write_role_is_accepted(self, own_site: Site, stranger: str) -> None:
        grant(own_site, READ, stranger)
        grant(own_site, WRITE, stranger)

        check(own_site, role=stranger)

    def test_read_only_role_is_accepted_for_a_dry_run(self, own_site: Site, stranger: str) -> None:
        grant(own_site, READ, stranger)

        check(own_site, role=stranger, apply=False)

    def test_read_only_role_is_told_the_missing_grant(self, own_site: Site, stranger: str) -> None:
        grant(own_site, READ, stranger)

        with pytest.raises(
            HostError, match=rf'may not UPDATE .* GRANT SELECT, UPDATE ON "public"\."Lead" TO {stranger}'
        ):
            check(own_site, role=stranger)

    def test_role_without_privileges_is_told_the_missing_grant(self, own_site: Site, stranger: str) -> None:
        with pytest.raises(HostError, match=rf'may not SELECT .* GRANT SELECT ON "public"\."Client" TO {stranger}'):
            check(own_site, role=stranger, apply=False)

    def test_role_without_schema_usage_is_told_the_missing_grant(self, own_site: Site, stranger: str) -> None:
        own_site.host.do("CREATE SCHEMA crm")

        with pytest.raises(HostError, match=rf'GRANT USAGE ON SCHEMA "crm" TO {stranger}'):
            check(own_site, role=stranger, schema="crm")


class TestWorkspaces:
    def test_existing_workspace_is_accepted(self, site: Site) -> None:
        check(site, clients=["client-1"])

    @pytest.mark.parametrize("unknown", ["client-2", "CLIENT-1", "client-1 ", "", "%s"])
    def test_unknown_workspace_is_refused_by_name(self, site: Site, unknown: str) -> None:
        with pytest.raises(UsageError, match="there is no workspace") as refused:
            check(site, clients=["client-1", unknown])

        assert repr(unknown) in str(refused.value)


class TestReadOnly:
    @pytest.mark.parametrize("statement", ['DELETE FROM "Lead"', "CREATE TABLE ours ()", "DELETE FROM backfill.run"])
    def test_server_refuses_every_write_of_a_dry_run(self, site: Site, statement: str) -> None:
        with site.engine.connect() as connection:
            begin_read_only(connection, statement_ms=1_000)

            with pytest.raises(DBAPIError, match="read-only transaction"):
                connection.exec_driver_sql(statement)

    def test_settings_end_with_the_transaction(self, site: Site) -> None:
        settings = "SELECT current_setting('transaction_read_only'), current_setting('enable_seqscan')"

        with site.engine.connect() as connection:
            begin_read_only(connection, statement_ms=1_000)
            within = tuple(connection.exec_driver_sql(settings).one())
            connection.rollback()
            after = tuple(connection.exec_driver_sql(settings).one())

        assert (within, after) == (("on", "off"), ("off", "on"))


class TestErrors:
    def test_whole_reason_alone_repeats_the_hosts_error_text(self, site: Site) -> None:
        statement = "DO $$ BEGIN RAISE EXCEPTION E'no\\nmore' USING ERRCODE = '23514', DETAIL = 'hunter2'; END $$"

        with site.engine.connect() as connection, pytest.raises(DBAPIError) as refused:
            connection.exec_driver_sql(statement)

        assert reason(refused.value) == "the host's own code raised an error (23514)"
        assert whole_reason(refused.value) == "no more · hunter2 (23514)"

    def test_missing_table_is_a_permanent_error(self, site: Site) -> None:
        with site.engine.connect() as connection, pytest.raises(DBAPIError) as refused:
            connection.exec_driver_sql("SELECT FROM missing")

        assert is_permanent(refused.value)
