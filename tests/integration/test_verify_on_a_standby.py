"""`verify --replica` reads a real standby that has the whole run, or says in one line why it can't."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from harness import UNBOUNDED, Backfill, wait_for
from integration.site import STATEMENT_MS, Site
from integration.standby import NoBaseBackupError, Standby
from sqlalchemy import Connection, Engine, text

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.engine.contract import PageContext, Stretch
from backfill_tasks.engine.database import connect, load_sql, parse_url, statement
from backfill_tasks.engine.model import Window
from backfill_tasks.engine.verification import Verifier
from backfill_tasks.errors import UnverifiedError
from sandbox.servers import Postgres, Servers


@pytest.fixture(scope="module")
def primary() -> Iterator[Postgres]:
    with Postgres() as started:
        yield started


@pytest.fixture(scope="module")
def shared_site(primary: Postgres, server: Servers) -> Iterator[Site]:
    made = Site(primary.url, server.redis_url)
    made.create()
    yield made
    made.close()


@pytest.fixture(scope="module")
def standby(primary: Postgres, shared_site: Site) -> Iterator[Standby]:
    try:
        made = Standby(primary).start()
    except NoBaseBackupError as error:
        pytest.skip(str(error))
    with psycopg.connect(made.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        connection.execute("SELECT pg_reload_conf()")
    yield made
    made.stop()


@pytest.fixture
def command(site: Site, standby: Standby, tmp_path: Path) -> Backfill:
    """Return the installed command, with both servers in its environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
    servers = {"DATABASE_URL": site.url, "REDIS_URL": site.redis_url, "BACKFILL_REPLICA_URL": standby.url}
    return Backfill(tmp_path, {**inherited, **UNBOUNDED, **servers})


@pytest.mark.parametrize("full", [(), ("--full",)], ids=["by index", "whole tables"])
def test_standby_verifies_a_run_once_it_has_all_of_it(site: Site, command: Backfill, full: tuple[str, ...]) -> None:
    site.host.add_leads("a", "b", "c")
    run = site.whole_run(limit=1, lanes=2)

    found = command.json("verify", "--replica", *full)

    assert (found["run_id"], found["clean"], found["looked_at"]) == (run.id, True, 3)
    assert found["server"].startswith("postgres on 127.0.0.1:")
    assert found["replayed"]


def test_missing_lead_is_found_on_the_standby_which_is_named(site: Site, command: Backfill, standby: Standby) -> None:
    site.host.add_leads("a", "b")
    site.whole_run()
    site.host.do("""DELETE FROM "BackgroundJob" WHERE "leadId" = 'a'""")

    done = command("verify", "--replica")

    assert done.returncode == 1
    assert f"read from           postgres on 127.0.0.1:{standby.port}, a standby, at " in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_verification_waits_for_a_standby_that_catches_up(
    site: Site, command: Backfill, standby: Standby, aside: ThreadPoolExecutor
) -> None:
    standby.pause_replay()
    site.host.add_leads("a")
    site.whole_run()
    verification = aside.submit(command, "verify", "--replica", timeout=300)
    wait_for(lambda: sessions(standby) or verification.done(), what="the command to ask the standby")

    standby.resume_replay()

    assert verification.result().returncode == 0


@pytest.mark.long
def test_standby_that_lacks_the_last_page_verifies_nothing(site: Site, command: Backfill, standby: Standby) -> None:
    site.host.add_leads("a", "b")
    run = site.start(limit=1)
    site.deliver()
    command.json("verify", "--replica")
    standby.pause_replay()
    site.deliver_all()
    try:
        done = command("verify", "--replica")
    finally:
        standby.resume_replay()

    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert f"NOT VERIFIED: the standby postgres on 127.0.0.1:{standby.port} lacks the last" in line
    assert f"when run {run.id} was read because its replay is paused" in line
    assert command.json("verify", "--replica")["state"] == "complete"


def test_requested_position_at_a_wal_page_boundary_is_reachable(site: Site) -> None:
    pad_to_the_end_of_a_wal_page(site)

    with site.engine.begin() as connection:
        asked = connection.execute(statement(load_sql("backfill_tasks.engine", "sql/wal_position.sql"))).one()

    assert asked.position % 8192 not in {24, 40}


def test_verification_does_not_wait_for_an_open_transaction(site: Site, command: Backfill) -> None:
    site.host.add_leads("a")
    site.whole_run()
    with site.host.session() as host:
        host.execute("""UPDATE "Client" SET name = 'not committed'""")

        assert command.json("verify", "--replica")["clean"]
        host.rollback()


def test_primary_is_refused_as_a_replica(site: Site, command: Backfill) -> None:
    site.host.add_leads("a")
    site.whole_run()

    done = command.set(BACKFILL_REPLICA_URL=site.url)("verify", "--replica")

    assert (done.returncode, "is not a standby: it accepts writes" in done.stderr) == (2, True)


def test_standby_of_another_server_is_refused(site: Site, command: Backfill, server: Servers) -> None:
    with Postgres() as other, Standby(other).start() as foreign:
        site.host.add_leads("a")
        site.whole_run()

        done = command.set(BACKFILL_REPLICA_URL=foreign.url)("verify", "--replica")

    assert (done.returncode, "is a standby of another server" in done.stderr) == (2, True)


def test_standbys_other_database_is_refused(site: Site, command: Backfill, standby: Standby) -> None:
    site.host.add_leads("a")
    run = site.whole_run()

    done = command.set(BACKFILL_REPLICA_URL=standby.url.rsplit("/", 1)[0] + "/template1")("verify", "--replica")

    assert (done.returncode, f"has no run {run.id}" in done.stderr) == (2, True)


def test_role_that_cannot_identify_the_servers_says_so(site: Site, command: Backfill) -> None:
    site.host.add_leads("a")
    site.whole_run()
    site.host.do("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
    site.host.do("CREATE ROLE reader LOGIN BYPASSRLS PASSWORD 'reader' IN ROLE pg_read_all_data")
    urls = {name: command.environment[name] for name in ("DATABASE_URL", "BACKFILL_REPLICA_URL")}
    as_reader = {name: re.sub("//.*@", "//reader:reader@", url) for name, url in urls.items()}
    try:
        done = command.set(**as_reader)("verify", "--replica")
    finally:
        site.host.do("DROP ROLE reader")
        site.host.do("GRANT EXECUTE ON FUNCTION pg_control_system() TO public")

    assert (done.returncode, done.stderr) == (0, "")
    assert "this role may not call pg_control_system()" in " ".join(done.stdout.split())


@pytest.mark.parametrize("url", ["", "mysql://replica/db", "postgresql://postgres@127.0.0.1:1/postgres"])
def test_invalid_replica_url_is_named(site: Site, command: Backfill, url: str) -> None:
    site.host.add_leads("a")
    site.whole_run()

    done = command.set(BACKFILL_REPLICA_URL=url)("verify", "--replica")

    assert done.returncode in {1, 2}
    (line,) = done.stderr.splitlines()
    assert "BACKFILL_REPLICA_URL" in line
    assert "DATABASE_URL" not in line


def test_primary_is_read_by_default(site: Site, command: Backfill) -> None:
    site.host.add_leads("a")
    site.whole_run()

    found = command.json("verify")

    assert (found["server"], found["replayed"]) == ("primary", None)


class Conflicting(LeadScoring):
    """Lead scoring whose first reads on a standby conflict with an exclusive lock replayed from the primary."""

    def __init__(self, site: Site, conflicts: int) -> None:
        super().__init__()
        self.__dict__.update(site=site, left=conflicts)

    def verify(self, connection: Connection, window: Window, context: PageContext) -> Stretch:
        if self.__dict__["left"]:
            self.__dict__["left"] -= 1
            connection.execute(text('SELECT count(*) FROM "Lead"'))
            self.__dict__["site"].host.do('BEGIN; LOCK TABLE "Lead"; SELECT pg_current_xact_id(); COMMIT')
            connection.execute(text("SELECT pg_sleep(10)"))
        return super().verify(connection, window, context)


@pytest.fixture
def reader(standby: Standby) -> Iterator[Engine]:
    """Yield an engine on the standby."""
    made = connect(parse_url(standby.url), statement_ms=STATEMENT_MS)
    yield made
    made.dispose()


def test_cancelled_read_is_repeated(site: Site, command: Backfill, reader: Engine) -> None:
    site.host.add_leads("a")
    run = site.whole_run()
    command.json("verify", "--replica")

    assert Verifier(reader, Conflicting(site, 2), STATEMENT_MS).verify(run).clean


def test_repeatedly_cancelled_read_is_reported(site: Site, command: Backfill, reader: Engine) -> None:
    site.host.add_leads("a")
    run = site.whole_run()
    command.json("verify", "--replica")

    with pytest.raises(UnverifiedError, match=r"^NOT VERIFIED: the standby cancelled .* hot_standby_feedback = on"):
        Verifier(reader, Conflicting(site, 99), STATEMENT_MS).verify(run)


def sessions(server: Postgres) -> int:
    """Return how many sessions the command has on this server."""
    with psycopg.connect(server.url) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backfill'"
        (number,) = connection.execute(query).fetchone() or (0,)
    return int(number)


def pad_to_the_end_of_a_wal_page(site: Site) -> None:
    """Write WAL until the primary's position is just behind a page header."""
    position = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint %% 8192"
    for _ in range(2_000):
        (offset,) = site.host.values(position)
        if offset in {24, 40}:
            return
        left = 8192 - offset
        # A message record takes 51 bytes besides its text.
        site.host.do(
            "SELECT pg_logical_emit_message(false, '', repeat('x', %s))", max(1, (left - 56 if left < 4000 else 2000))
        )
