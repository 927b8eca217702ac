"""What the backfill's sessions survive, and which role settings its transactions override."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from harness import wait_for
from integration.site import Site, read_only
from long_forms import long
from psycopg import sql
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from vanishing import Vanishing, vanishing

from backfill_tasks.engine.database import begin_read_only, connect, is_outage, kind, parse_url, reason
from backfill_tasks.engine.ledger import NewRun
from backfill_tasks.engine.model import PageMessage
from backfill_tasks.engine.runs import Runs

#: A short statement timeout, so that a lost call is detected soon.
SHORT_MS = 500


@contextmanager
def engine_at(url: str) -> Iterator[Engine]:
    made = connect(parse_url(url), statement_ms=SHORT_MS)
    yield made
    made.dispose()


def backend(engine: Engine) -> int:
    with engine.begin() as connection:
        pid: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    return pid


@pytest.fixture
def url(site: Site) -> str:
    return site.url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    with engine_at(url) as made:
        yield made


@pytest.fixture
def lossy(url: str) -> Iterator[tuple[Vanishing, Engine]]:
    """Yield a proxy that can go silent, and an engine behind it."""
    with vanishing(url) as (proxy, through), engine_at(through) as made:
        yield proxy, made


def statement(proxy: Vanishing, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
        proxy.vanish()
        connection.exec_driver_sql("SELECT 2")


def commit(proxy: Vanishing, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
        proxy.vanish()


def savepoint(proxy: Vanishing, engine: Engine) -> None:
    with engine.begin() as connection:
        proxy.vanish()
        with connection.begin_nested():
            pass


def in_a_savepoint(proxy: Vanishing, engine: Engine) -> None:
    with engine.begin() as connection, connection.begin_nested():
        proxy.vanish()
        connection.exec_driver_sql("SELECT 1")


class TestSilence:
    def test_lost_idle_session_is_replaced_without_an_error(self, lossy: tuple[Vanishing, Engine]) -> None:
        proxy, engine = lossy
        before = backend(engine)
        proxy.vanish()

        assert backend(engine) != before

    @pytest.mark.parametrize("lose", [statement, *long(commit, savepoint, in_a_savepoint)])
    def test_lost_call_times_out_and_the_next_session_works(
        self, lossy: tuple[Vanishing, Engine], lose: Callable[[Vanishing, Engine], None]
    ) -> None:
        proxy, engine = lossy

        with pytest.raises(DBAPIError) as lost:
            lose(proxy, engine)

        assert reason(lost.value) == "the server has not answered for 5.5 s"
        assert is_outage(lost.value)
        assert backend(engine)

    @pytest.mark.long
    def test_server_that_never_answers_a_new_connection_is_an_outage(self, lossy: tuple[Vanishing, Engine]) -> None:
        proxy, engine = lossy
        proxy.dead = True

        with pytest.raises(DBAPIError) as lost:
            backend(engine)

        assert is_outage(lost.value)

    @pytest.mark.long
    def test_transactions_longer_timeout_is_respected(self, engine: Engine) -> None:
        with engine.begin() as connection:
            begin_read_only(connection, statement_ms=60_000)
            connection.exec_driver_sql(f"SELECT pg_sleep({(SHORT_MS + 5_500) / 1000})")

    def test_next_transaction_has_the_engines_timeout_again(self, engine: Engine) -> None:
        with engine.begin() as connection:
            begin_read_only(connection, statement_ms=60_000)

        with pytest.raises(DBAPIError) as late, engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_sleep(60)")

        assert kind(late.value) == "contention"


class TestEndedSessions:
    def test_ended_idle_session_is_replaced_without_an_error(self, site: Site, engine: Engine) -> None:
        before = backend(engine)

        site.host.do(f"SELECT pg_terminate_backend({before}, 10000)")

        assert backend(engine) != before

    def test_failed_first_statement_is_not_repeated(self, engine: Engine) -> None:
        backend(engine)

        with pytest.raises(DBAPIError) as ended, engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid(), 10000)")

        assert is_outage(ended.value)
        assert backend(engine)


def test_session_is_writable_again_once_the_database_is(own_site: Site) -> None:
    with engine_at(own_site.url) as engine:

        def write() -> None:
            with engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE written ()")

        with read_only(own_site.url), pytest.raises(DBAPIError) as refused:
            write()
        write()

    assert is_outage(refused.value)
    assert reason(refused.value) == "cannot execute CREATE TABLE in a read-only transaction (25006)"


#: Settings that a DBA or a framework may give a role and that would break a backfill.
SETTINGS = {
    "statement_timeout": "1s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "1s",
    "transaction_timeout": "1s",
    "default_transaction_isolation": "serializable",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Pacific/Apia",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "search_path": "''",
    "row_security": "off",
}


@contextmanager
def altered(url: str, settings: dict[str, str]) -> Iterator[None]:
    """Give a database's new sessions these settings while the block runs."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        for setting, value in settings.items():
            literal = sql.SQL(value) if value == "''" else sql.Literal(value)
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(setting.lower()), literal)
            )
        yield
        connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))


@pytest.fixture
def odd_site(own_site: Site) -> Iterator[Site]:
    """Yield a host with some leads, in a database with unusual settings."""
    own_site.host.add_leads("lead-1", "lead-2", "lead-3")
    with altered(own_site.url, SETTINGS):
        strange = own_site.with_settings()
        yield strange
        strange.close()


def test_run_under_unusual_settings_is_complete_and_clean(odd_site: Site) -> None:
    run = odd_site.whole_run()

    assert run.state == "complete"
    assert run.counts["inserted"] == 3
    assert odd_site.verify(run.id).clean


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("statement_timeout", "15s"),
        ("lock_timeout", "0"),
        ("idle_in_transaction_session_timeout", "15s"),
        ("transaction_timeout", "0"),
        ("transaction_isolation", "read committed"),
        ("DateStyle", "ISO, YMD"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("bytea_output", "hex"),
        ("client_encoding", "UTF8"),
        ("extra_float_digits", "1"),
        ("standard_conforming_strings", "on"),
        ("array_nulls", "on"),
    ],
)
def test_transaction_overrides_the_roles_setting(odd_site: Site, setting: str, value: str) -> None:
    with odd_site.engine.begin() as connection:
        assert connection.exec_driver_sql(f"SHOW {setting}").scalar_one() == value


def test_session_ended_by_idle_timeout_is_replaced_without_an_error(own_site: Site) -> None:
    with altered(own_site.url, {"idle_session_timeout": "1s"}), engine_at(own_site.url) as engine:
        before = backend(engine)
        gone = f"SELECT FROM pg_stat_activity WHERE pid = {before}"
        wait_for(lambda: not own_site.host.rows(gone), what="the server to end the session")

        assert backend(engine) != before


@pytest.fixture
def without_a_ledger(own_site: Site) -> Iterator[Runs]:
    """Yield runs whose ledger becomes unavailable when a page is sent."""

    def send(_message: PageMessage, _delay: float) -> None:
        own_site.host.do("ALTER TABLE backfill.run RENAME TO away")

    own_site.host.add_leads("a")
    chain = replace(own_site.parts.chain, send=send)
    yield replace(own_site.runs, assemble_chain=lambda: chain)
    own_site.host.do("ALTER TABLE backfill.away RENAME TO run")


def test_start_succeeds_once_its_pages_are_sent(own_site: Site, without_a_ledger: Runs) -> None:
    run = own_site.start()

    assert without_a_ledger.start(NewRun("another", run.parameters, run.lanes), force=True)


def test_resume_succeeds_once_its_pages_are_sent(own_site: Site, without_a_ledger: Runs) -> None:
    run = own_site.start()

    assert without_a_ledger.resume(run.id) == []
