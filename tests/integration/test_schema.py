"""The ledger's migrations: each applied once and in order, whoever applies them and how often."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import psycopg
import pytest
from integration.site import Host
from psycopg import sql
from sqlalchemy import Connection, Engine, text

from backfill_tasks.engine import schema
from backfill_tasks.engine.database import connect, parse_url
from backfill_tasks.errors import LedgerError

COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'backfill' ORDER BY 1, 2
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'backfill'::regnamespace ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'backfill' ORDER BY 1, 2"

A_RUN = "INSERT INTO backfill.run (id, backfill, state, parameters, started_by) VALUES ('r', 'b', 'failed', '{}', 'me')"


@pytest.fixture
def database(empty_database: str) -> Iterator[Host]:
    """An empty database, as its DBA sees it."""
    host = Host(empty_database)
    yield host
    host.close()


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    """The same, as the engine sees it."""
    connected = connect(parse_url(empty_database))
    yield connected
    connected.dispose()


@pytest.fixture
def stranger(database: Host) -> Iterator[str]:
    """A role without any privilege."""
    role = f"backfill_test_{secrets.token_hex(4)}"
    database.connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    yield role
    for command in ("DROP OWNED BY {}", "DROP ROLE {}"):
        database.connection.execute(sql.SQL(command).format(sql.Identifier(role)))


def migrate(engine: Engine) -> list[int]:
    with engine.begin() as connection:
        return schema.migrate(connection)


def require(engine: Engine) -> None:
    with engine.begin() as connection:
        schema.require(connection)


@contextmanager
def acting_as(role: str, engine: Engine) -> Iterator[Connection]:
    """Yield a transaction with another role's privileges."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        yield connection


def looks(database: Host) -> list[object]:
    """Return the structure of the ledger's tables."""
    return [database.rows(statement) for statement in (COLUMNS, CONSTRAINTS, INDEXES)]


def run_script(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(schema.as_sql().encode())


class TestMigrating:
    def test_an_empty_database_gets_every_version(self, engine: Engine) -> None:
        assert migrate(engine) == list(schema.migrations())

    def test_done_again_it_does_nothing(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        before = looks(database)

        assert migrate(engine) == []
        assert looks(database) == before

    def test_what_the_ledger_holds_stays(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        database.do(A_RUN)

        migrate(engine)

        assert database.values("SELECT id FROM backfill.run") == ["r"]

    def test_of_two_at_once_one_does_it_and_both_succeed(
        self, engine: Engine, database: Host, aside: ThreadPoolExecutor
    ) -> None:
        together = Barrier(4)

        def migrate_with_the_others(_: int) -> list[int]:
            with engine.begin() as connection:
                connection.execute(text("SELECT 1"))
                together.wait(timeout=30)
                return schema.migrate(connection)

        applied = sorted(aside.map(migrate_with_the_others, range(4)))

        assert applied == [[], [], [], list(schema.migrations())]
        assert database.values("SELECT version FROM backfill.migration ORDER BY version") == list(schema.migrations())

    def test_versions_follow_each_other_without_a_gap(self) -> None:
        assert list(schema.migrations()) == list(range(1, schema.latest() + 1))


class TestRequiring:
    def test_a_ledger_of_the_known_version_will_do(self, engine: Engine) -> None:
        migrate(engine)

        require(engine)

    def test_a_missing_one_is_missed_and_the_way_to_it_told(self, engine: Engine, database: Host) -> None:
        with pytest.raises(LedgerError, match=r"does not exist yet: run `backfill init`"):
            require(engine)
        assert database.values("SELECT count(*) FROM pg_namespace WHERE nspname = 'backfill'") == [0]

    def test_an_older_one_is_told_by_its_version(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        database.do("UPDATE backfill.migration SET version = version - 100")

        with pytest.raises(
            LedgerError, match=rf"at version {schema.latest() - 100}, .* needs version {schema.latest()}"
        ):
            require(engine)

    def test_a_newer_one_is_refused(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        database.do("INSERT INTO backfill.migration (version) VALUES (99)")

        with pytest.raises(LedgerError, match=r"at version 99, .* install the newer program"):
            require(engine)

    def test_a_newer_one_is_not_migrated(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        database.do("INSERT INTO backfill.migration (version) VALUES (99)")
        before = looks(database)

        with pytest.raises(LedgerError, match="install the newer program"):
            migrate(engine)
        assert looks(database) == before


class TestScript:
    def test_it_makes_what_migrating_makes(self, engine: Engine, database: Host, empty_database: str) -> None:
        migrate(engine)
        migrated = looks(database)
        database.do("DROP SCHEMA backfill CASCADE")

        run_script(empty_database)

        assert looks(database) == migrated
        require(engine)

    def test_it_can_be_run_again(self, database: Host, empty_database: str) -> None:
        run_script(empty_database)
        before = looks(database)

        run_script(empty_database)

        assert looks(database) == before
        assert database.values("SELECT version FROM backfill.migration ORDER BY version") == list(schema.migrations())

    def test_it_can_be_run_after_migrating(self, engine: Engine, database: Host, empty_database: str) -> None:
        migrate(engine)
        before = looks(database)

        run_script(empty_database)

        assert looks(database) == before

    def test_nothing_is_left_to_migrate_after_it(self, engine: Engine, empty_database: str) -> None:
        run_script(empty_database)

        assert migrate(engine) == []


class TestRights:
    def test_a_role_that_may_not_create_the_ledger_is_sent_to_a_dba(
        self, engine: Engine, database: Host, stranger: str
    ) -> None:
        with (
            pytest.raises(LedgerError, match=r"may not create .*`backfill init --sql`"),
            acting_as(stranger, engine) as it,
        ):
            schema.migrate(it)
        assert database.values("SELECT count(*) FROM pg_namespace WHERE nspname = 'backfill'") == [0]

    def test_a_role_that_may_not_use_the_ledger_is_told_which_right_it_lacks(
        self, engine: Engine, stranger: str
    ) -> None:
        migrate(engine)

        with pytest.raises(LedgerError, match="USAGE"), acting_as(stranger, engine) as connection:
            schema.require(connection)

    def test_the_grants_that_the_script_names_are_enough(
        self, engine: Engine, database: Host, stranger: str, empty_database: str
    ) -> None:
        run_script(empty_database)
        for line in schema.as_sql().splitlines():
            if "GRANT" in line:
                database.do(line.strip("- ").replace("the_role", stranger))

        with acting_as(stranger, engine) as connection:
            schema.require(connection)
            connection.exec_driver_sql(A_RUN)
            connection.execute(text("INSERT INTO backfill.event (run_id, name, who) VALUES ('r', 'started', 'me')"))
