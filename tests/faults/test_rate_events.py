"""A rate change through Celery's control is recorded once per running run, by any of the workers."""

from collections.abc import Iterator

import psycopg
import pytest
from faults.rate import fleet, set_through_celery, shown, waiting
from faults.stage import MakeStage, Stage
from harness import wait_for
from psycopg import sql

from backfill_tasks.engine.rate import Rate
from sandbox.servers import Servers


@pytest.fixture(scope="module")
def shared(make_stage: MakeStage) -> Iterator[Stage]:
    """A shared stage; an earlier test may have cut its workers' database connections."""
    made = make_stage()
    yield made
    made.close()


@pytest.fixture
def two_runs(shared: Stage) -> Stage:
    """A stage with two workers and two running runs; their pages wait for a rate of 9/h."""
    shared.restore()
    shared.staff(2)
    fleet(shared).set(Rate("9/h"))
    wait_for(lambda: shown(shared) == {"9/h"}, what="all workers to know")
    for name in ("lead-scoring", "message-rollups"):
        assert shared.backfill("run", name, "--apply", "--lanes", "1", "--limit", "50", "--detach").returncode == 0
    return shared


@pytest.fixture
def closed_database(two_runs: Stage, server: Servers) -> Iterator[None]:
    """Make the stage's database refuse connections, and cut the existing ones."""
    name = sql.Identifier(two_runs.backfill.database_url.rsplit("/", 1)[1])
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name.as_string().strip('"')]
        )
        yield
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def test_a_rate_change_is_recorded_once_per_running_run(two_runs: Stage) -> None:
    set_through_celery(two_runs, "8/h")
    wait_for(lambda: len(two_runs.events("rate")) == 2, what="both runs to have an event")
    set_through_celery(two_runs, "8/h")
    set_through_celery(two_runs, "7/h")

    wait_for(lambda: two_runs.events("rate").count({"rate": ["8/h", "7/h"]}) == 2, what="the next change to be noted")
    of_each_run = two_runs.rows(
        "SELECT jsonb_agg(detail -> 'rate' ORDER BY id) AS changes FROM backfill.event"
        " WHERE name = 'rate' GROUP BY run_id"
    )
    assert of_each_run == [{"changes": [["9/h", "8/h"], ["8/h", "7/h"]]}] * 2
    by = {row["who"] for row in two_runs.rows("SELECT who FROM backfill.event WHERE name = 'rate'")}
    assert by <= {f"Celery's control, at {worker}" for worker in waiting(two_runs)}


@pytest.mark.long
def test_a_rate_change_without_the_database_applies_and_logs_the_missing_event(
    two_runs: Stage, closed_database: None
) -> None:
    answers = set_through_celery(two_runs, "8/h")

    assert answers == [{"ok": "the rate of all workers together is 8/h"}] * 2
    wait_for(
        lambda: "the rate is now 8/h, was 9/h, but the ledger couldn't record the event" in two_runs.logs(),
        what="a warning",
    )
    assert fleet(two_runs).read() == Rate("8/h")


@pytest.mark.long
def test_a_rate_change_after_a_reconnect_is_recorded(two_runs: Stage) -> None:
    with two_runs.database() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    set_through_celery(two_runs, "8/h")

    wait_for(lambda: len(two_runs.events("rate")) == 2, what="both runs to have an event")
