"""A change of the rate through Celery's control is an event of every running run, whichever worker records it."""

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
    """A stage whose workers may have lost their connections to the database in the test before."""
    made = make_stage()
    yield made
    made.close()


@pytest.fixture
def two_runs(shared: Stage) -> Stage:
    """A stage of two workers, with two running runs whose pages wait for a rate of 9/h."""
    shared.restore()
    shared.staff(2)
    fleet(shared).set(Rate("9/h"))
    wait_for(lambda: shown(shared) == {"9/h"}, what="all workers to know")
    for name in ("lead-scoring", "message-rollups"):
        assert shared.backfill("run", name, "--apply", "--lanes", "1", "--limit", "50", "--detach").returncode == 0
    return shared


@pytest.fixture
def closed_database(two_runs: Stage, server: Servers) -> Iterator[None]:
    """A stage's database that accepts no connections and has lost its existing ones."""
    name = sql.Identifier(two_runs.backfill.database_url.rsplit("/", 1)[1])
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name.as_string().strip('"')]
        )
        yield
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def test_a_change_through_celerys_control_is_one_event_of_each_running_run(two_runs: Stage) -> None:
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
def test_without_the_database_a_change_holds_and_a_worker_says_what_the_ledger_lacks(
    two_runs: Stage, closed_database: None
) -> None:
    answers = set_through_celery(two_runs, "8/h")

    assert answers == [{"ok": "the rate of all workers together is 8/h"}] * 2
    wait_for(lambda: "the rate is 8/h, not 9/h, but the ledger has no event of it" in two_runs.logs(), what="a warning")
    assert fleet(two_runs).read() == Rate("8/h")


@pytest.mark.long
def test_a_database_that_is_back_has_the_event_of_a_change(two_runs: Stage) -> None:
    with two_runs.database() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    set_through_celery(two_runs, "8/h")

    wait_for(lambda: len(two_runs.events("rate")) == 2, what="both runs to have an event")
