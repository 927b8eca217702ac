"""Pressure: what each indicator measures, what postpones a page, and that a broken indicator stops no page."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
import pytest
from harness import wait_for
from integration.site import OUR_KEY, Site
from sqlalchemy import event
from unbounded import only

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.backfills.lead_scoring.queue import LiveQueueAge
from backfill_tasks.engine import ledger
from backfill_tasks.engine.admission.indicators import (
    ActiveSessions,
    Indicator,
    LockWaits,
    OldestTransaction,
    OthersAtWork,
    PageDuration,
    Query,
    Reading,
    ReplicationLag,
    Row,
)
from backfill_tasks.engine.database import statement

STATISTICS = (ReplicationLag, LockWaits, ActiveSessions, OldestTransaction, OthersAtWork)


def live_queue(most: float) -> LiveQueueAge:
    return LiveQueueAge("public", OUR_KEY, most)


def read(site: Site, indicator: Indicator, *prepare: str) -> Reading:
    """Return an indicator's reading, taken in a transaction of its own."""
    with site.engine.begin() as connection:
        for statement in prepare:
            connection.exec_driver_sql(statement)
        (reading,) = site.parts.pressure.readings(connection, [indicator])
    return reading


def statements(site: Site, indicators: Sequence[Indicator]) -> list[str]:
    """Return the statements that these indicators send, in order."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        found.append(statement)

    with site.engine.begin() as connection:
        event.listen(connection, "before_cursor_execute", note)
        site.parts.pressure.readings(connection, indicators)
    return found


# ---------------------------------------------------------------- PostgreSQL


class TestOldestTransaction:
    def test_waits_while_an_older_transaction_is_open(self, site: Site) -> None:
        with site.host.session() as other:
            other.execute("SELECT 1")

            reading = read(site, OldestTransaction(0))

        assert reading.answer == "wait"
        assert reading.reason == f"a transaction has been open for {reading.value}, over 0 s"

    def test_goes_once_the_transaction_has_ended(self, site: Site) -> None:
        with site.host.session() as other:
            other.execute("SELECT 1")

        wait_for(lambda: read(site, OldestTransaction(0)).answer == "go", what="the session to be gone")

    def test_goes_while_open_transactions_are_young(self, site: Site) -> None:
        with site.host.session() as other:
            other.execute("SELECT 1")

            assert read(site, OldestTransaction(3_600)).answer == "go"

    def test_ignores_the_pages_own_transaction(self, site: Site) -> None:
        assert read(site, OldestTransaction(0), "SELECT pg_sleep(0.01)").answer == "go"


class TestLockWaits:
    @contextmanager
    def blocked(self, site: Site, aside: ThreadPoolExecutor, *, application: str) -> Iterator[None]:
        """Keep a session of this application waiting for another session's row lock."""
        site.host.add_leads("lead-1")
        update = """UPDATE "Lead" SET "jobTitle" = 'CTO' WHERE id = 'lead-1'"""

        def wait() -> None:
            with psycopg.connect(site.url, application_name=application) as waiting:
                waiting.execute(update.encode())

        with site.host.session() as holder:
            holder.execute(update.encode())
            waits = aside.submit(wait)
            site.host.wait_until_blocked()
            yield
        waits.result()

    def test_waits_while_too_many_sessions_wait_for_a_lock(self, site: Site, aside: ThreadPoolExecutor) -> None:
        with self.blocked(site, aside, application="webhooks"):
            reading = read(site, LockWaits(0))

        assert (reading.answer, reading.value) == ("wait", "1")
        assert reading.reason == "1 session waits for a lock, over 0"

    def test_goes_while_no_more_sessions_wait_than_allowed(self, site: Site, aside: ThreadPoolExecutor) -> None:
        with self.blocked(site, aside, application="webhooks"):
            assert read(site, LockWaits(1)).answer == "go"

    def test_goes_when_no_session_waits(self, site: Site) -> None:
        reading = read(site, LockWaits(0))

        assert (reading.answer, reading.value) == ("go", "0")

    def test_ignores_our_own_sessions(self, site: Site, aside: ThreadPoolExecutor) -> None:
        with self.blocked(site, aside, application="backfill"):
            assert read(site, LockWaits(0)).answer == "go"


class TestActiveSessions:
    def test_waits_while_too_large_a_share_of_connections_is_active(self, site: Site) -> None:
        reading = read(site, ActiveSessions(0))

        assert reading.answer == "wait"
        assert reading.reason == f"{reading.value} connections are active, over 0 %"

    def test_counts_all_databases_sessions_against_max_connections(self, site: Site) -> None:
        reading = read(site, ActiveSessions(100))

        (most,) = site.host.values("SELECT current_setting('max_connections')")
        assert reading.answer == "go"
        assert reading.value.endswith(f" of {most}")

    def test_counts_a_session_idle_in_transaction(self, site: Site) -> None:
        with site.host.session() as other:
            other.execute("SELECT 1")

            assert int(read(site, ActiveSessions(100)).value.split()[0]) >= 2


class TestReplicationLag:
    def with_standbys(self, site: Site, *lags: str, most: float = 30) -> Reading:
        """Return the reading with standbys that lag this much; a view replaces pg_stat_replication."""
        rows = ", ".join(f"(interval '{lag}')" if lag else "(CAST(NULL AS interval))" for lag in lags)
        return read(
            site,
            ReplicationLag(most),
            f"CREATE TEMPORARY VIEW pg_stat_replication AS SELECT * FROM (VALUES {rows}) AS standby (replay_lag)",
            "SET LOCAL search_path = pg_temp, pg_catalog",
        )

    def test_waits_while_the_slowest_standby_lags_too_far(self, own_site: Site) -> None:
        reading = self.with_standbys(own_site, "2 s", "95.5 s")

        assert (reading.answer, reading.value) == ("wait", "95.5 s")
        assert reading.reason == "a standby is 95.5 s behind, over 30 s"

    def test_goes_while_all_standbys_are_close(self, own_site: Site) -> None:
        assert self.with_standbys(own_site, "2 s", "30 s").answer == "go"

    def test_goes_while_a_standby_has_nothing_to_replay(self, own_site: Site) -> None:
        reading = self.with_standbys(own_site, "")

        assert (reading.answer, reading.value) == ("go", "0.0 s")

    def test_goes_without_a_standby(self, site: Site) -> None:
        reading = read(site, ReplicationLag(0))

        assert (reading.answer, reading.value) == ("go", "no standby")


class TestOthersAtWork:
    @pytest.fixture
    def quiet_site(self, own_site: Site) -> Site:
        """Return a site where the test's own second session passes for one of the backfill's."""
        own_site.host.do("SET application_name = 'backfill'")
        return own_site

    def test_limits_the_page_size_beside_an_active_session(self, quiet_site: Site) -> None:
        with quiet_site.host.session() as other:
            other.execute("SELECT 1")

            reading = read(quiet_site, OthersAtWork(50))

        assert (reading.answer, reading.value, reading.threshold) == ("go", "1", "any: 50 per page")
        assert reading.limit == 50
        assert reading.reason == "one page at a time, of at most 50 items: 1 other session is active"

    def test_does_not_limit_the_page_size_beside_our_own_sessions(self, quiet_site: Site) -> None:
        reading = read(quiet_site, OthersAtWork(50))

        assert (reading.answer, reading.value, reading.limit, reading.reason) == ("go", "0", None, "")

    def test_ignores_a_session_that_has_been_idle_for_a_while(self, quiet_site: Site) -> None:
        with quiet_site.host.session() as other:
            other.execute("SELECT 1")

            wait_for(lambda: read(quiet_site, OthersAtWork(50)).limit is None, what="the session to count no more")

    def test_page_beside_an_active_session_is_small(self, quiet_site: Site) -> None:
        quiet_site.host.add_leads("lead-1", "lead-2", "lead-3")
        with quiet_site.host.session() as other:
            other.execute("SELECT 1")

            site = quiet_site.with_settings(BACKFILL_BUSY_LIMIT="2")
            site.start(limit=3)
            site.deliver()

        assert quiet_site.host.enqueued() == ["lead-1", "lead-2"]

    def test_page_beside_an_active_session_takes_turns_with_other_pages(
        self, quiet_site: Site, aside: ThreadPoolExecutor
    ) -> None:
        quiet_site.host.add_leads("lead-1")
        site = quiet_site.with_settings(BACKFILL_BUSY_LIMIT="2")
        run = site.start()
        with site.host.session() as other, quiet_site.engine.begin() as page:
            other.execute("SELECT 1")
            ledger.take_turn(page, LeadScoring.name, run.id, (), lock_ms=1_000, patience_ms=1_000)

            second = aside.submit(site.deliver)

            site.host.wait_until_blocked()
        assert second.result().outcome == "committed"


class TestPageDuration:
    def page_took(self, site: Site, *, seconds: float, ago: float) -> None:
        """Record a page of this duration that ended `ago` seconds ago."""
        site.host.add_leads("lead-1", "lead-2")
        site.start(limit=1)
        site.host.do(
            "UPDATE backfill.lane SET page_seconds = %s, moved_at = now() - %s * interval '1 second'", seconds, ago
        )

    def test_waits_after_a_slow_page_for_as_long_as_it_took(self, site: Site) -> None:
        self.page_took(site, seconds=60, ago=1)

        reading = read(site, PageDuration(2_000))

        assert (reading.answer, reading.value) == ("wait", "60,000 ms")
        assert reading.reason == "the last page took 60,000 ms, over 2000 ms"

    def test_goes_after_that_wait(self, site: Site) -> None:
        self.page_took(site, seconds=60, ago=61)

        assert read(site, PageDuration(2_000)).answer == "go"

    def test_goes_after_a_quick_page(self, site: Site) -> None:
        self.page_took(site, seconds=1.5, ago=0)

        assert read(site, PageDuration(2_000)).answer == "go"

    def test_goes_before_the_first_page(self, site: Site) -> None:
        assert read(site, PageDuration(1)).answer == "go"

    def test_measures_the_pages_themselves(self, own_site: Site) -> None:
        own_site.host.do(
            "CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$"
        )
        own_site.host.do('CREATE TRIGGER rest BEFORE INSERT ON "BackgroundJob" EXECUTE FUNCTION rest()')
        own_site.host.add_leads("lead-1", "lead-2")
        resting = own_site.with_settings(BACKFILL_MAX_PAGE_MS="100", BACKFILL_PRESSURE_SECONDS="0.01")
        resting.start(limit=1)
        resting.deliver()

        step = resting.deliver()

        assert step.outcome == "put off"
        assert "the last page took" in (step.reason or "")
        resting.close()


class TestPrivileges:
    @pytest.fixture
    def weak_role(self, own_site: Site) -> Iterator[str]:
        """Yield a role that sees its own sessions only."""
        name = f"weak_{time.time_ns()}"
        own_site.host.do(f"CREATE ROLE {name}")
        yield name
        own_site.host.do(f"DROP ROLE {name}")

    @pytest.mark.parametrize("kind", STATISTICS)
    def test_indicator_without_the_grant_is_unknown_and_names_it(
        self, own_site: Site, weak_role: str, kind: Callable[[float], Indicator]
    ) -> None:
        reading = read(own_site, kind(0), f"SET LOCAL ROLE {weak_role}")

        assert reading.answer == "unknown"
        assert reading.reason.endswith(f"GRANT pg_read_all_stats TO {weak_role}")

    @pytest.mark.parametrize("kind", STATISTICS)
    def test_indicator_works_with_the_named_grant(
        self, own_site: Site, weak_role: str, kind: Callable[[float], Indicator]
    ) -> None:
        own_site.host.do(f"GRANT pg_read_all_stats TO {weak_role}")

        assert read(own_site, kind(100), f"SET LOCAL ROLE {weak_role}").answer == "go"

    def test_unknown_reading_postpones_no_page(self, own_site: Site, weak_role: str) -> None:
        with own_site.host.session() as other, own_site.engine.begin() as connection:
            other.execute("SELECT 1")
            connection.exec_driver_sql(f"SET LOCAL ROLE {weak_role}")

            assert own_site.parts.pressure.ask(connection, [OldestTransaction(0)]).wait is None

    def test_page_size_is_limited_if_other_sessions_are_invisible(self, own_site: Site, weak_role: str) -> None:
        assert read(own_site, OthersAtWork(50), f"SET LOCAL ROLE {weak_role}").limit == 50


# ---------------------------------------------------------------- the host's queue


class TestLiveQueueAge:
    def add_live_job(self, site: Site, *, due_for: str, status: str = "PENDING") -> None:
        """Add a live job that has been due for this long."""
        site.host.add_leads("live", overallScore=7)
        site.host.add_job("live", status, dedupeKey="lead_scoring:live")
        site.host.do(
            """UPDATE "BackgroundJob" SET "runAt" = now() AT TIME ZONE 'UTC' - CAST(%s AS interval)""", due_for
        )

    def add_own_jobs(self, site: Site, number: int, *, due_for: str) -> None:
        """Add jobs of the backfill that have all been due for this long."""
        site.host.add_leads("ours", overallScore=7)
        site.host.do(
            """
            INSERT INTO "BackgroundJob" (
              id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt"
            )
            SELECT
              'ours-' || number, 'LEAD_SCORING_POST_PROCESS', 'PENDING', %s || number, 'client-1', 'ours', 'ours/1',
              now() AT TIME ZONE 'UTC' - CAST(%s AS interval), now()
            FROM generate_series(1, %s) AS number
            """,
            OUR_KEY,
            due_for,
            number,
        )

    def test_waits_while_a_live_job_has_waited_too_long(self, site: Site) -> None:
        self.add_live_job(site, due_for="5 minutes")

        reading = read(site, live_queue(180))

        assert (reading.answer, reading.value) == ("wait", "300 s")
        assert reading.reason == "a live job has waited for 300 s, over 180 s"

    def test_goes_while_no_live_job_has_waited_too_long(self, site: Site) -> None:
        self.add_live_job(site, due_for="2 minutes")

        assert read(site, live_queue(180)).answer == "go"

    @pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "FAILED"])
    def test_ignores_started_and_finished_jobs(self, site: Site, status: str) -> None:
        self.add_live_job(site, due_for="5 minutes", status=status)

        reading = read(site, live_queue(180))

        assert (reading.answer, reading.value) == ("go", "none waits")

    def test_ignores_a_job_that_is_not_due_yet(self, site: Site) -> None:
        self.add_live_job(site, due_for="-5 minutes")

        assert read(site, live_queue(0.001)).value == "none waits"

    def test_ignores_how_long_our_own_jobs_wait(self, site: Site) -> None:
        self.add_own_jobs(site, 10, due_for="3 days")

        assert read(site, live_queue(180)).answer == "go"

    def test_finds_a_live_job_behind_our_own_jobs(self, site: Site) -> None:
        self.add_live_job(site, due_for="5 minutes")
        self.add_own_jobs(site, 999, due_for="1 hour")

        assert read(site, live_queue(180)).value == "300 s"

    def test_waits_if_too_many_old_jobs_of_ours_hide_live_ones(self, site: Site) -> None:
        self.add_own_jobs(site, 1_000, due_for="1 hour")

        reading = read(site, live_queue(180))

        assert (reading.answer, reading.value) == ("wait", "3,600 s")
        assert reading.reason.startswith("1,000 of our own jobs have been due for over 180 s")

    def test_goes_if_the_jobs_of_ours_that_hide_live_ones_are_recent(self, site: Site) -> None:
        self.add_own_jobs(site, 1_000, due_for="1 minute")

        assert read(site, live_queue(180)).answer == "go"

    def test_postpones_a_page_until_the_live_job_is_done(self, site: Site) -> None:
        self.add_live_job(site, due_for="5 minutes")
        site.host.add_leads("lead-1")
        quick = site.with_settings(BACKFILL_PRESSURE_SECONDS="0.01")
        run = quick.start(pace=only(max_live_wait=180.0))

        assert quick.deliver().outcome == "put off"
        site.host.do("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED'""")
        wait_for(lambda: quick.deliver().outcome == "committed", what="the page to get leave")
        assert quick.read(run.id).state == "complete"
        quick.close()

    def test_is_skipped_when_switched_off(self, site: Site) -> None:
        self.add_live_job(site, due_for="5 days")
        site.host.add_leads("lead-1")
        site.start(pace=only(max_live_wait=0))

        assert site.deliver().outcome == "committed"

    def test_uses_each_runs_own_threshold(self, site: Site) -> None:
        self.add_live_job(site, due_for="5 minutes")
        site.host.add_leads("lead-1", "lead-2")
        site.start(pace=only(max_live_wait=60.0), limit=1)
        site.start(pace=only(max_live_wait=600.0), limit=1)

        assert [site.deliver().outcome for _ in range(2)] == ["put off", "committed"]


class TestUnmeasurableLiveQueue:
    """The indicator fails closed: no page starts unless it is known whether live jobs wait."""

    GO_ON = "To continue without it: backfill tune RUN --max-live-wait 0"

    @pytest.fixture
    def weak_role(self, own_site: Site) -> Iterator[str]:
        """Yield a role that may read the host's tables."""
        name = f"weak_{time.time_ns()}"
        own_site.host.do(f"CREATE ROLE {name}")
        own_site.host.do(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        yield name
        own_site.host.do(f"DROP OWNED BY {name}")
        own_site.host.do(f"DROP ROLE {name}")

    def bloat(self, site: Site) -> None:
        """Fill the index with entries of finished jobs, as on a host whose table isn't vacuumed."""
        site.host.add_leads("lead-1", overallScore=7)
        site.host.do('ALTER TABLE "BackgroundJob" SET (autovacuum_enabled = off)')
        site.host.do(
            """
            INSERT INTO "BackgroundJob" (
              id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt"
            )
            SELECT
              'job-' || number, 'LEAD_SCORING_POST_PROCESS', 'PENDING', 'key-' || number, 'client-1', 'lead-1',
              'lead-1/1', now() AT TIME ZONE 'UTC' - interval '1 day', now()
            FROM generate_series(1, 50000) AS number
            """
        )
        site.host.do("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED'""")

    def test_waits_while_the_table_is_locked_and_names_the_locking_session(self, own_site: Site) -> None:
        with own_site.host.session() as other:
            other.execute('LOCK TABLE "BackgroundJob" IN ACCESS EXCLUSIVE MODE')
            pid = other.info.backend_pid

            reading = read(own_site, live_queue(180))

        assert (reading.answer, reading.value, reading.measured) == ("wait", "-", None)
        assert reading.reason.startswith("the live queue can't be measured: canceling statement due to")
        assert f"The session with process id {pid} has locked" in reading.reason
        assert self.GO_ON in reading.reason
        assert read(own_site, live_queue(180)).answer == "go"

    def test_waits_while_the_index_is_bloated_and_names_it(self, own_site: Site) -> None:
        pressure = own_site.parts.pressure
        with own_site.host.session() as old:
            old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            old.execute('SELECT FROM "BackgroundJob"')
            self.bloat(own_site)
            pressure.patience_ms = pressure.closed_patience_ms = 1

            reading = read(own_site, live_queue(180))

        assert reading.answer == "wait"
        assert "(57014)" in reading.reason
        cure = 'REINDEX INDEX CONCURRENTLY public."BackgroundJob_status_runAt_idx"'
        assert cure in reading.reason
        pressure.patience_ms, pressure.closed_patience_ms = 100, 1_000
        own_site.host.do(cure)
        assert read(own_site, live_queue(180)).answer == "go"

    def test_names_the_missing_index(self, own_site: Site) -> None:
        own_site.host.do('DROP INDEX "BackgroundJob_status_runAt_idx"')
        self.bloat(own_site)
        own_site.parts.pressure.patience_ms = own_site.parts.pressure.closed_patience_ms = 1

        reading = read(own_site, live_queue(180))

        assert reading.answer == "wait"
        assert 'CREATE INDEX CONCURRENTLY ON "public"."BackgroundJob" (status, "runAt")' in reading.reason

    def test_names_the_missing_privilege(self, own_site: Site, weak_role: str) -> None:
        own_site.host.do(f'REVOKE SELECT ON "BackgroundJob" FROM {weak_role}')

        reading = read(own_site, live_queue(180), f"SET LOCAL ROLE {weak_role}")

        assert reading.answer == "wait"
        assert f'GRANT SELECT ON "public"."BackgroundJob" TO {weak_role}' in reading.reason

    def test_names_the_missing_row_security_exemption(self, own_site: Site, weak_role: str) -> None:
        own_site.host.do('ALTER TABLE "BackgroundJob" ENABLE ROW LEVEL SECURITY')

        reading = read(own_site, live_queue(180), f"SET LOCAL ROLE {weak_role}", "SET LOCAL row_security = off")

        assert reading.answer == "wait"
        assert f"ALTER ROLE {weak_role} BYPASSRLS" in reading.reason

    def test_points_to_doctor_if_the_catalogs_give_no_cause(self, own_site: Site) -> None:
        reading = read(own_site, LiveQueueAge("nowhere", OUR_KEY, 180))

        assert reading.answer == "wait"
        assert "`backfill doctor` says what is missing" in reading.reason

    def test_gets_more_time_than_an_indicator_that_fails_open(self, own_site: Site) -> None:
        own_site.parts.pressure.patience_ms = 1
        own_site.parts.pressure.closed_patience_ms = 15_000
        with own_site.host.session() as old:
            old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            old.execute('SELECT FROM "BackgroundJob"')
            self.bloat(own_site)

            assert read(own_site, live_queue(180)).answer == "go"

    def test_is_unknown_when_switched_off(self, own_site: Site) -> None:
        assert read(own_site, LiveQueueAge("nowhere", OUR_KEY, 0)).answer == "unknown"

    def test_postpones_a_page_until_it_can_be_measured(self, own_site: Site) -> None:
        own_site.host.add_leads("lead-1")
        quick = own_site.with_settings(BACKFILL_PRESSURE_SECONDS="0.01")
        run = quick.start(pace=only(max_live_wait=180.0))
        with own_site.host.session() as other:
            other.execute('LOCK TABLE "BackgroundJob" IN ACCESS EXCLUSIVE MODE')

            step = quick.deliver()

        assert (step.outcome, "can't be measured" in (step.reason or "")) == ("put off", True)
        assert own_site.host.values("SELECT reason FROM backfill.lane") == [step.reason]
        assert own_site.host.values("SELECT kind FROM backfill.hold") == ["live queue"]
        wait_for(lambda: quick.deliver().outcome == "committed", what="the page to get leave")
        assert quick.read(run.id).state == "complete"
        quick.close()


# ---------------------------------------------------------------- broken indicators


@dataclass(frozen=True)
class Breaking(Indicator):
    """An indicator whose query fails or, if the query succeeds, whose judgement raises."""

    sql: str = "SELECT 1 AS one"
    name: ClassVar[str] = "breaking"

    @property
    def threshold(self) -> str:
        return "1"

    @property
    def query(self) -> Query:
        return Query(statement(self.sql))

    def judge(self, row: Row) -> Reading:
        return self.compare(1 / (row.get("one", 1) - 1), 1, "0", "")


@dataclass(frozen=True)
class Guard(Breaking):
    """A broken indicator that fails closed."""

    fails_closed: ClassVar[bool] = True


RAISES = Breaking()
SQL_ERROR = Breaking("SELECT no_such_column FROM backfill.run")
TIME_OUT = Breaking("SELECT pg_sleep(10)")
SETTLED = Breaking("SET LOCAL statement_timeout = '1ms'")
LOST = Breaking("SELECT pg_terminate_backend(pg_backend_pid())")
WITHOUT_VALUE = Breaking("SELECT :nothing AS one")
BREAKING = (RAISES, SQL_ERROR, TIME_OUT, WITHOUT_VALUE)


class TestBrokenIndicator:
    @pytest.fixture
    def broken_site(self, site: Site) -> Iterator[Site]:
        """Yield a worker whose indicators are all broken, with a run and its first message."""
        broken = site.with_settings(BACKFILL_PRESSURE_SECONDS="0.01")
        broken.parts.pressure.indicators = BREAKING
        site.host.add_leads("lead-1", "lead-2")
        broken.start(limit=1)
        yield broken
        broken.close()

    @pytest.mark.parametrize(
        ("indicator", "why"),
        [
            (RAISES, "ZeroDivisionError: division by zero"),
            (SQL_ERROR, 'column "no_such_column" does not exist (42703)'),
            (TIME_OUT, "canceling statement due to statement timeout (57014)"),
            (
                WITHOUT_VALUE,
                "StatementError: (sqlalchemy.exc.InvalidRequestError) A value is required for bind parameter 'nothing'",
            ),
        ],
    )
    def test_is_unknown_and_says_why(self, site: Site, indicator: Indicator, why: str) -> None:
        reading = read(site, indicator)

        assert (reading.answer, reading.reason) == ("unknown", why)

    @pytest.mark.parametrize("indicator", BREAKING)
    def test_does_not_prevent_later_readings(self, site: Site, indicator: Indicator) -> None:
        with site.engine.begin() as connection:
            readings = site.parts.pressure.readings(connection, [LockWaits(0), indicator, LockWaits(9), indicator])

        assert [each.answer for each in readings] == ["go", "unknown", "go", "unknown"]

    @pytest.mark.parametrize("indicators", [BREAKING, [SETTLED], [LockWaits(0)], []])
    def test_leaves_the_pages_timeouts_unchanged(self, site: Site, indicators: Sequence[Indicator]) -> None:
        site.host.add_leads("lead-1")
        site.start()
        with site.engine.begin() as connection:
            ledger.fence(connection, site.waiting[0], lock_ms=321, statement_ms=12_345)
            site.parts.pressure.readings(connection, indicators)

            kept = connection.exec_driver_sql(
                "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
            ).one()

        assert tuple(kept) == ("321ms", "12345ms")

    @pytest.mark.parametrize("indicator", [Guard(), Guard("SELECT no_such_column FROM backfill.run")])
    def test_postpones_pages_if_it_fails_closed(self, site: Site, indicator: Indicator) -> None:
        reading = read(site, indicator)

        assert (reading.answer, reading.measured) == ("wait", None)
        assert reading.reason

    def test_is_logged_as_postponing_pages_if_it_fails_closed(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            read(site.with_settings(), Guard())

        assert "the indicator breaking can't be measured, and pages wait until it can: ZeroDivisionError" in caplog.text

    def test_stops_no_page(self, broken_site: Site) -> None:
        broken_site.deliver_all()

        assert broken_site.host.enqueued() == ["lead-1", "lead-2"]

    def test_is_logged_once(self, broken_site: Site, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            broken_site.deliver_all()

        assert len([record for record in caplog.records if "can't be measured" in record.message]) == 1

    def test_page_is_retried_after_an_indicator_loses_the_connection(self, broken_site: Site) -> None:
        broken_site.parts.pressure.indicators = (LOST, LockWaits(0))
        message = broken_site.waiting[0]

        assert broken_site.deliver().outcome == "retry"

        broken_site.parts.pressure.indicators = ()
        assert broken_site.parts.chain.step(message).outcome == "committed"


class TestReadings:
    def test_reading_is_cached_for_a_while(self, site: Site) -> None:
        with site.host.session() as other, site.engine.begin() as connection:
            pressure = site.with_settings(BACKFILL_PRESSURE_SECONDS="600").parts.pressure
            pressure.fresh_seconds = 600
            assert pressure.ask(connection, [OldestTransaction(0)]).wait is None
            other.execute("SELECT 1")

            assert pressure.ask(connection, [OldestTransaction(0)]).wait is None

    def test_any_number_of_indicators_costs_three_round_trips(self, site: Site) -> None:
        every = [kind(100) for kind in STATISTICS] + [PageDuration(2_000), live_queue(180)]

        assert len(statements(site, every)) == 3

    def test_broken_indicator_is_read_separately(self, site: Site) -> None:
        wanted = [SQL_ERROR, PageDuration(2_000), live_queue(180)]
        read(site, SQL_ERROR)

        together, alone = (each for each in statements(site, wanted) if each.startswith("SELECT"))

        assert ("page_seconds" in together, "no_such_column" in together) == (True, False)
        assert ("page_seconds" in alone, "no_such_column" in alone) == (False, True)

    def test_repaired_indicator_is_read_with_the_others(self, own_site: Site) -> None:
        mended = Breaking("SELECT one FROM mended")
        read(own_site, mended)
        own_site.host.do("CREATE TABLE mended AS SELECT 2 AS one")
        assert read(own_site, mended).answer == "go"

        assert len(statements(own_site, [mended, PageDuration(2_000), live_queue(180)])) == 3

    def test_same_query_with_other_values_is_read_separately(self, site: Site) -> None:
        ours, theirs = live_queue(180), LiveQueueAge("public", "other:", 180)
        site.host.add_leads("lead-1")
        site.host.add_job("lead-1", "PENDING", dedupeKey="other:lead-1")
        with site.engine.begin() as connection:
            readings = site.parts.pressure.readings(connection, [ours, theirs])

        assert [each.answer for each in readings] == ["wait", "go"]

    def test_disabled_indicator_is_not_read(self, site: Site) -> None:
        with site.host.session() as other, site.engine.begin() as connection:
            other.execute("SELECT 1")

            assert site.parts.pressure.ask(connection, [OldestTransaction(None), live_queue(0)]).wait is None

    def test_reading_changes_nothing(self, site: Site) -> None:
        every = [kind(0) for kind in STATISTICS] + [PageDuration(1), live_queue(1)]
        before = site.host.versions()
        with site.engine.begin() as connection:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            readings = site.parts.pressure.readings(connection, every)

        assert "unknown" not in {each.answer for each in readings}
        assert site.host.versions() == before
