"""The ledger's migrations: each is applied once and in order, whoever applies them and however often."""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import psycopg
import pytest
from integration.site import Host, Row
from psycopg import sql
from sqlalchemy import Connection, Engine, text

from backfill_tasks.engine import schema
from backfill_tasks.engine.database import connect, parse_url
from backfill_tasks.errors import LedgerError
from backfill_tasks.scoring import sessions
from backfill_tasks.scoring.openai_batch import ledger

COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'backfill' ORDER BY 1, 2
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'backfill'::regnamespace ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'backfill' ORDER BY 1, 2"

#: A ledger of version 9 in which a run walks, a session scores, and a provider has a batch.
VERSION_9 = """
INSERT INTO backfill.run (id, backfill, state, parameters, started_by) VALUES ('r', 'b', 'running', '{}', 'me');
INSERT INTO backfill.lane (run_id, number, upper_bound, cursor, page) VALUES ('r', 1, 'z', 'b', 2);
INSERT INTO backfill.page (run_id, lane, number, generation, lower, cursor, counts, enqueued)
VALUES ('r', 1, 1, 1, NULL, 'a', '{"read": 1}', ARRAY['a']), ('r', 1, 2, 1, 'a', 'b', '{"read": 1}', NULL);
INSERT INTO backfill.scoring (id, scorer, state, parameters, max_spend, spent, reserved, started_by)
VALUES ('s', 'openai', 'running', '{"scorer": "openai"}', 100, 7, 5, 'me');
INSERT INTO backfill.scoring_slot (session_id, number, batch, scored) VALUES ('s', 1, 2, 3);
INSERT INTO backfill.spend (holder, session_id, slot, generation, model, requests, reserved, spent, settled_at)
VALUES ('settled', 's', 1, 1, 'm', 3, 9, 7, now()), ('open', 's', 1, 1, 'm', 2, 5, NULL, NULL);
INSERT INTO backfill.batch (id, account, model, state, provider_id, requests, input_tokens, output_tokens)
VALUES ('batch', 'a', 'm', 'submitted', 'theirs', 2, 10, 20);
INSERT INTO backfill.batch_request (batch_id, job) VALUES ('batch', 'job-1'), ('batch', 'job-2');
"""

A_RUN = "INSERT INTO backfill.run (id, backfill, state, parameters, started_by) VALUES ('r', 'b', 'failed', '{}', 'me')"


@pytest.fixture
def database(empty_database: str) -> Iterator[Host]:
    """Yield an empty database as its DBA sees it."""
    host = Host(empty_database)
    yield host
    host.close()


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    """Yield an engine on that database."""
    connected = connect(parse_url(empty_database))
    yield connected
    connected.dispose()


@pytest.fixture
def stranger(database: Host) -> Iterator[str]:
    """Yield a role without any privilege."""
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


def contents(database: Host) -> dict[str, list[Row]]:
    """Return the rows of the ledger's tables that scoring and walking fill."""
    tables = ("run", "lane", "page", "scoring", "scoring_slot", "spend", "batch", "batch_request")
    return {table: database.rows(f"SELECT * FROM backfill.{table} ORDER BY 1, 2, 3") for table in tables}


def run_script(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(schema.as_sql().encode())


class TestMigrating:
    def test_empty_database_gets_every_version(self, engine: Engine) -> None:
        assert migrate(engine) == list(schema.migrations())

    def test_second_migration_is_a_no_op(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        before = looks(database)

        assert migrate(engine) == []
        assert looks(database) == before

    def test_migration_keeps_existing_rows(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        database.do(A_RUN)

        migrate(engine)

        assert database.values("SELECT id FROM backfill.run") == ["r"]

    def test_a_ledger_of_version_9_keeps_its_rows_and_can_be_read(
        self, engine: Engine, database: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        every = schema.migrations()
        with monkeypatch.context() as older:
            older.setattr(schema, "migrations", lambda: {number: every[number] for number in range(1, 10)})
            migrate(engine)
        database.connection.execute(VERSION_9.encode())
        before = contents(database)

        applied = migrate(engine)

        assert applied == list(range(10, schema.latest() + 1))
        after = contents(database)
        for table, rows in before.items():
            assert [{name: row[name] for name in rows[0]} for row in after[table]] == rows, table
        with engine.begin() as connection:
            session = sessions.read(connection, "s")
            submission = ledger.read(connection, "batch")
        assert (session.spent, session.reserved, session.written.scored) == (7, 5, 3)
        assert (submission.state, submission.bounds, submission.unwanted, submission.written) == (
            "submitted",
            {"job-1": 0, "job-2": 0},
            False,
            False,
        )

    def test_a_migrated_ledger_of_version_9_has_the_structure_of_a_new_one(
        self, engine: Engine, database: Host, make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        every = schema.migrations()
        with monkeypatch.context() as older:
            older.setattr(schema, "migrations", lambda: {number: every[number] for number in range(1, 10)})
            migrate(engine)
        database.connection.execute(VERSION_9.encode())
        migrate(engine)
        new = Host(make_database())
        run_script(new.url)

        assert looks(database) == looks(new)
        new.close()

    def test_of_concurrent_migrations_one_applies_and_all_succeed(
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

    def test_versions_have_no_gap(self) -> None:
        assert list(schema.migrations()) == list(range(1, schema.latest() + 1))


class TestRequiring:
    def test_current_ledger_is_accepted(self, engine: Engine) -> None:
        migrate(engine)

        require(engine)

    def test_missing_ledger_is_refused_with_the_command_to_create_it(self, engine: Engine, database: Host) -> None:
        with pytest.raises(LedgerError, match=r"does not exist yet: run `backfill init`"):
            require(engine)
        assert database.values("SELECT count(*) FROM pg_namespace WHERE nspname = 'backfill'") == [0]

    def test_older_ledger_is_refused_with_its_version(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        database.do("UPDATE backfill.migration SET version = version - 100")

        with pytest.raises(
            LedgerError, match=rf"at version {schema.latest() - 100}, .* needs version {schema.latest()}"
        ):
            require(engine)

    def test_newer_ledger_is_refused(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        database.do("INSERT INTO backfill.migration (version) VALUES (99)")

        with pytest.raises(LedgerError, match=r"at version 99, .* install the newer program"):
            require(engine)

    def test_newer_ledger_is_not_migrated(self, engine: Engine, database: Host) -> None:
        migrate(engine)
        database.do("INSERT INTO backfill.migration (version) VALUES (99)")
        before = looks(database)

        with pytest.raises(LedgerError, match="install the newer program"):
            migrate(engine)
        assert looks(database) == before


class TestScript:
    def test_script_creates_the_same_tables_as_migrations(
        self, engine: Engine, database: Host, empty_database: str
    ) -> None:
        migrate(engine)
        migrated = looks(database)
        database.do("DROP SCHEMA backfill CASCADE")

        run_script(empty_database)

        assert looks(database) == migrated
        require(engine)

    def test_script_can_be_run_again(self, database: Host, empty_database: str) -> None:
        run_script(empty_database)
        before = looks(database)

        run_script(empty_database)

        assert looks(database) == before
        assert database.values("SELECT version FROM backfill.migration ORDER BY version") == list(schema.migrations())

    def test_script_can_be_run_after_migrations(self, engine: Engine, database: Host, empty_database: str) -> None:
        migrate(engine)
        before = looks(database)

        run_script(empty_database)

        assert looks(database) == before

    def test_script_leaves_nothing_to_migrate(self, engine: Engine, empty_database: str) -> None:
        run_script(empty_database)

        assert migrate(engine) == []


class TestPrivileges:
    def test_role_that_may_not_create_the_ledger_is_referred_to_a_dba(
        self, engine: Engine, database: Host, stranger: str
    ) -> None:
        with (
            pytest.raises(LedgerError, match=r"may not create .*`backfill init --sql`"),
            acting_as(stranger, engine) as it,
        ):
            schema.migrate(it)
        assert database.values("SELECT count(*) FROM pg_namespace WHERE nspname = 'backfill'") == [0]

    def test_role_that_may_not_use_the_ledger_is_told_the_missing_privilege(
        self, engine: Engine, stranger: str
    ) -> None:
        migrate(engine)

        with pytest.raises(LedgerError, match="USAGE"), acting_as(stranger, engine) as connection:
            schema.require(connection)

    def test_scripts_grants_are_sufficient(
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
