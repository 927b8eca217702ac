"""Database outages: pages wait with a reason and without a traceback, and continue after the outage."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from faults.stage import MakeStage, Stage
from harness import wait_for
from long_forms import long
from vanishing import vanishing

from sandbox.servers import Postgres


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that no other test uses."""
    with Postgres() as started:
        yield started


@contextmanager
def read_only(postgres: Postgres) -> Iterator[None]:
    """Make a server read-only, like a hosted one with a full disk."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


def slow_run(stage: Stage) -> None:
    """Start a run that lasts until `hurry`, and wait for its first pages."""
    stage.start_worker(beat=True)
    stage.follow("--detach", "--page-delay-ms", "3000", "--limit", "10").end()
    stage.wait_for_pages(4)


def hurry(stage: Stage) -> None:
    """Remove the run's page delay."""
    assert stage.backfill("tune", stage.the_run(), "--page-delay-ms", "0").returncode == 0


def lanes_put_off(stage: Stage, why: str) -> bool:
    """Return whether both lanes wait for this reason, according to the workers' logs."""
    lines = [line for line in stage.logs().splitlines() if "page postponed for" in line and why in line]
    return {number for number in (1, 2) for line in lines if f"lane={number} " in line} == {1, 2}


def test_pages_wait_for_a_read_only_server(own_stage: MakeStage, own_postgres: Postgres) -> None:
    stage = own_stage(database_url=own_postgres.url, BACKFILL_PAGE_RETRIES="0")
    slow_run(stage)

    with read_only(own_postgres):
        why = "in a read-only transaction (25006)"
        wait_for(lambda: lanes_put_off(stage, why), what="both lanes to wait")
        paused = stage.backfill("pause", "--all")
        examined = stage.backfill("doctor")

    hurry(stage)
    stage.assert_done_once(stage.watch())
    assert "Traceback" not in stage.logs()
    assert paused.stderr.splitlines() == [paused.stderr.strip()]
    assert "The server accepts no writes." in paused.stderr
    assert "accepts no writes: default_transaction_read_only is on" in " ".join(examined.stdout.split())
    assert examined.returncode == 1


@pytest.mark.long
def test_silent_database_connections_are_replaced(own_stage: MakeStage, own_postgres: Postgres) -> None:
    with vanishing(own_postgres.url) as (proxy, url):
        stage = own_stage(database_url=url, BACKFILL_STATEMENT_TIMEOUT_MS="1000")
        slow_run(stage)

        assert proxy.vanish()

        hurry(stage)
        stage.assert_done_once(stage.watch())
        assert "Traceback" not in stage.logs()


@pytest.mark.parametrize(
    "arguments", [["status"], *long(["doctor"], ["verify"], ["run"], ["pause", "--all"], ["events"])]
)
def test_a_command_reports_a_silent_database_in_one_line(
    own_stage: MakeStage, own_postgres: Postgres, arguments: list[str]
) -> None:
    with vanishing(own_postgres.url) as (proxy, url):
        stage = own_stage(database_url=url, BACKFILL_STATEMENT_TIMEOUT_MS="1000")
        proxy.dead = True

        done = stage.backfill(*arguments)

    assert done.returncode == 1
    assert "PostgreSQL can't be reached" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
