"""Row-level security: hidden rows are refused before a run, and a page detects a policy that appears later."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from integration.site import Site
from sqlalchemy.exc import DBAPIError

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.backfills.message_rollups import MessageRollups
from backfill_tasks.engine import schema
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.runs import cut
from backfill_tasks.engine.verification import Verifier
from backfill_tasks.errors import HostError, LedgerError

LEDGER = ("event", "hold", "lane", "migration", "page", "quarantine", "run")

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
GRANT USAGE ON SCHEMA backfill TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA backfill TO {role};
"""

#: Policies that hide a table's rows or prevent writes.
HIDING = {
    "no policy": "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "a policy for some rows": (
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON {table} USING (random() < 0.5)"
    ),
    "a policy to read and none to write": (
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY reading ON {table} FOR SELECT USING (true)"
    ),
}


@dataclass(frozen=True)
class Weak:
    """A role with all privileges that a run needs, but no exemption from row-level security."""

    owner: Site
    site: Site
    role: str

    @property
    def fix(self) -> str:
        return f"have a DBA run ALTER ROLE {self.role} BYPASSRLS"

    def hide(self, table: str, how: str = "no policy") -> None:
        self.owner.host.connection.execute(HIDING[how].format(table=table).encode())

    def mend(self) -> None:
        self.owner.host.do(f"ALTER ROLE {self.role} BYPASSRLS")


@pytest.fixture
def weak(own_site: Site) -> Iterator[Weak]:
    role = f"backfill_test_{secrets.token_hex(4)}"
    own_site.host.do(f"CREATE ROLE {role} LOGIN PASSWORD 'Xq7kZw9p'")
    own_site.host.connection.execute(GRANTS.format(role=role).encode())
    parts = urlsplit(own_site.url)
    url = parts._replace(netloc=f"{role}:Xq7kZw9p@{parts.hostname}:{parts.port}").geturl()
    site = own_site.with_settings(DATABASE_URL=url)
    yield Weak(own_site, site, role)
    site.close()
    own_site.host.do(f"DROP OWNED BY {role}")
    own_site.host.do(f"DROP ROLE {role}")


def check(site: Site, backfill: Backfill, *, apply: bool = True) -> None:
    with site.engine.begin() as connection:
        backfill.check_host(connection, apply=apply)


class TestHost:
    def test_role_with_every_grant_is_accepted(self, weak: Weak) -> None:
        check(weak.site, LeadScoring())

    @pytest.mark.parametrize("table", LeadScoring.rights)
    @pytest.mark.parametrize("apply", [True, False])
    def test_hidden_table_is_refused_with_the_statement_that_fixes_it(
        self, weak: Weak, table: str, *, apply: bool
    ) -> None:
        weak.hide(f'"{table}"')

        with pytest.raises(HostError, match=rf'row-level security .*"public"\."{table}".*{weak.fix}$'):
            check(weak.site, LeadScoring(), apply=apply)
        weak.mend()
        check(weak.site, LeadScoring(), apply=apply)

    @pytest.mark.parametrize("how", HIDING)
    def test_every_kind_of_policy_is_refused(self, weak: Weak, how: str) -> None:
        weak.hide('"Lead"', how)

        with pytest.raises(HostError, match="row-level security"):
            check(weak.site, MessageRollups())

    def test_unused_hidden_table_is_accepted(self, weak: Weak) -> None:
        weak.hide('"BackgroundJob"')

        check(weak.site, MessageRollups())

    def test_owner_is_accepted_unless_row_security_is_forced(self, weak: Weak) -> None:
        weak.owner.host.do(f'ALTER TABLE "Lead" OWNER TO {weak.role}')
        weak.hide('"Lead"')
        check(weak.site, LeadScoring())

        weak.owner.host.do('ALTER TABLE "Lead" FORCE ROW LEVEL SECURITY')
        with pytest.raises(HostError, match=weak.fix):
            check(weak.site, LeadScoring())
        weak.owner.host.do('ALTER TABLE "Lead" OWNER TO CURRENT_USER')

    def test_verification_is_refused_too(self, weak: Weak) -> None:
        weak.owner.host.add_leads("lead-1")
        run = weak.site.start()
        weak.site.deliver_all()
        weak.hide('"Message"')

        with pytest.raises(HostError, match="row-level security"):
            Verifier(weak.site.engine, LeadScoring(), 15_000).verify(weak.owner.read(run.id))


class TestLedger:
    @pytest.mark.parametrize("table", LEDGER)
    def test_hidden_ledger_table_is_refused_and_not_reported_as_missing(self, weak: Weak, table: str) -> None:
        weak.hide(f"backfill.{table}")

        with (
            weak.site.engine.begin() as connection,
            pytest.raises(LedgerError, match=rf"row-level security .* \({table}\): {weak.fix}$"),
        ):
            schema.require(connection)
        weak.mend()
        with weak.site.engine.begin() as connection:
            schema.require(connection)

    def test_ledger_hidden_by_an_event_trigger_is_not_created(self, weak: Weak) -> None:
        host = weak.owner.host
        host.do("DROP SCHEMA backfill CASCADE")
        host.do(
            """
            CREATE FUNCTION secure() RETURNS event_trigger LANGUAGE plpgsql AS $$
            DECLARE made record;
            BEGIN
              FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE' LOOP
                EXECUTE format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY', made.object_identity);
                EXECUTE format('ALTER TABLE %%s FORCE ROW LEVEL SECURITY', made.object_identity);
              END LOOP;
            END $$
            """,
        )
        host.do("CREATE EVENT TRIGGER secure ON ddl_command_end EXECUTE FUNCTION secure()")
        host.do(f"GRANT CREATE ON DATABASE {host.connection.info.dbname} TO {weak.role}")

        with (
            pytest.raises(LedgerError, match=rf"row-level security .*\(migration\): {weak.fix}$"),
            weak.site.engine.begin() as connection,
        ):
            schema.migrate(connection)
        assert host.values("SELECT count(*) FROM pg_namespace WHERE nspname = 'backfill'") == [0]
        weak.mend()
        weak.site.migrate()


class TestPage:
    @pytest.fixture
    def started(self, weak: Weak) -> Weak:
        """Return a run of two pages, the first of which is done."""
        weak.owner.host.add_leads("lead-1", "lead-2")
        weak.site.start(limit=1)
        assert weak.site.deliver().outcome == "committed"
        return weak

    @pytest.mark.parametrize("how", HIDING)
    @pytest.mark.parametrize("table", ["Lead", "Message", "BackgroundJob"])
    def test_page_with_hidden_rows_waits_and_says_why(self, started: Weak, table: str, how: str) -> None:
        started.hide(f'"{table}"', how)

        step = started.site.deliver()

        assert step.outcome == "put off"
        assert f'row-level security hides rows of "public"."{table}"' in (step.reason or "")
        assert (step.reason or "").endswith(started.fix)
        (lane,) = started.owner.host.rows("SELECT state, reason, waits FROM backfill.lane")
        assert lane == {"state": "running", "reason": step.reason, "waits": 1}
        assert started.owner.host.enqueued() == ["lead-1"]

    def test_page_continues_by_itself_once_that_is_fixed(self, started: Weak) -> None:
        started.hide('"Lead"')
        for _ in range(7):  # more often than a poison page is attempted
            assert started.site.deliver().outcome == "put off"

        started.mend()
        started.site.deliver_all()

        assert started.owner.host.values("SELECT state FROM backfill.run") == ["complete"]
        assert started.owner.host.enqueued() == ["lead-1", "lead-2"]

    def test_page_of_another_backfill_waits_too(self, weak: Weak) -> None:
        weak.owner.host.add_leads("lead-1")
        weak.site.start(backfill=MessageRollups.name)
        weak.hide('"Lead"', "a policy to read and none to write")

        step = weak.site.deliver()

        assert (step.outcome, "row-level security" in (step.reason or "")) == ("put off", True)

    def test_page_with_a_revoked_privilege_waits_too(self, started: Weak) -> None:
        started.owner.host.do(f'REVOKE UPDATE ON "Lead" FROM {started.role}')

        step = started.site.deliver()

        assert step.outcome == "put off"
        assert f'GRANT SELECT, UPDATE ON "public"."Lead" TO {started.role}' in (step.reason or "")

    @pytest.mark.parametrize("table", ["lane", "run", "page"])
    def test_hidden_ledger_ends_no_run_and_loses_no_page(self, started: Weak, table: str) -> None:
        started.hide(f"backfill.{table}")
        for _ in range(7):
            step = started.site.deliver()
            assert step.outcome == "put off"
            assert f"row-level security hides rows of the ledger from this role ({table})" in (step.reason or "")
        assert started.owner.host.values("SELECT state FROM backfill.run") == ["running"]

        started.mend()
        started.site.deliver_all()

        assert started.owner.host.values("SELECT state FROM backfill.run") == ["complete"]
        assert started.owner.host.enqueued() == ["lead-1", "lead-2"]

    def test_run_with_hidden_lanes_is_not_finished(self, started: Weak) -> None:
        started.hide("backfill.lane")
        (run,) = started.owner.host.values("SELECT id FROM backfill.run")

        started.site.parts.chain.finish(run)

        assert started.owner.host.values("SELECT state FROM backfill.run") == ["running"]


class TestReading:
    """A read between the check and the end of a command fails instead of returning fewer rows."""

    def test_server_refuses_a_read_of_hidden_rows(self, weak: Weak) -> None:
        weak.hide('"Lead"')

        with weak.site.engine.connect() as connection:
            begin_read_only(connection, statement_ms=1_000)
            with pytest.raises(DBAPIError, match="row-level security"):
                connection.exec_driver_sql('SELECT FROM "Lead"')

    def test_lanes_are_not_split_by_visible_rows_only(self, weak: Weak) -> None:
        weak.owner.host.add_leads("lead-1")
        run = weak.site.start()
        weak.hide('"Lead"')

        with pytest.raises(DBAPIError, match="row-level security"):
            cut(weak.site.engine, LeadScoring(), run.parameters, smallest=1)
