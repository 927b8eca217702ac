"""Transient database errors: the page is retried with backoff; when the retries run out, its lane stops."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from faults.stage import Following, MakeStage, Stage
from harness import wait_for

from sandbox.servers import Postgres

LOCK_TIMEOUT = "canceling statement due to lock timeout (55P03)"


def test_a_page_waits_for_a_lock_of_the_hosts_and_is_tried_again(stage: Stage) -> None:
    with psycopg.connect(stage.backfill.database_url) as host:
        lock_job(host, waiting_jobs(stage)[0])
        run = stage.follow()
        wait_for(
            lambda: stage.rows("SELECT FROM backfill.lane WHERE number = 1 AND reason IS NOT NULL"), what="a retry"
        )

        assert stage.lane()["reason"] == f"page 1 waits for a retry: {LOCK_TIMEOUT}"

    stage.assert_done_once(run.end())
    assert stage.lane()["reason"] is None


@pytest.mark.long
def test_a_page_that_is_locked_for_good_stops_its_lane_after_growing_waits_until_it_is_mended(stage: Stage) -> None:
    with psycopg.connect(stage.backfill.database_url) as host:
        lock_job(host, waiting_jobs(stage)[0])
        run = stage.run(status=1)

    assert run["state"] == "failed"
    assert run["reason"] == f"lane 1: page 1: given up after 2 retries: {LOCK_TIMEOUT}"
    assert [(lane["state"], lane["reason"]) for lane in run["lanes"]] == [
        ("failed", f"page 1: given up after 2 retries: {LOCK_TIMEOUT}"),
        ("done", None),
    ]
    waits = re.findall(rf"put off for (\d+) s: run={run['run_id']} lane=1 ", stage.logs())
    assert sorted(waits) == ["1", "2"]
    stage.assert_done_once(stage.resume())


@pytest.mark.long
def test_a_page_that_loses_a_deadlock_is_tried_again(stage: Stage) -> None:
    # The shared stage's database detects deadlocks at once; the host session doesn't look for them.
    run = play_deadlock(stage, host_looks_after="10min")

    stage.assert_done_once(run.end())
    assert "deadlock detected (40P01)" in stage.logs()


@pytest.mark.long
def test_the_host_never_loses_a_deadlock_with_a_page(own_stage: MakeStage) -> None:
    stage = own_stage()
    stage.start_worker(concurrency=1)

    run = play_deadlock(stage, host_looks_after="1s")  # PostgreSQL's default

    stage.assert_done_once(run.end())


def test_a_page_whose_connection_is_lost_is_tried_again(stage: Stage) -> None:
    stage.sabotage.plan("page recorded", "block", page=3)
    run = stage.follow()
    stage.sabotage.wait_until_reached("page recorded")

    cut_connections(stage)
    stage.sabotage.release("page recorded")

    stage.assert_done_once(run.end())
    assert "page put off" in stage.logs()


@pytest.mark.long
def test_connections_that_are_lost_between_pages_cost_nothing(stage: Stage) -> None:
    run = stage.follow("--page-delay-ms", "200")
    stage.wait_for_pages(4)

    cut_connections(stage)

    stage.assert_done_once(run.end())


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that no other test uses."""
    with Postgres() as started:
        yield started


def test_pages_that_a_crash_of_the_server_has_forgotten_are_done_again(
    own_stage: MakeStage, own_postgres: Postgres
) -> None:
    stage = own_stage(database_url=own_postgres.url)
    stage.start_worker(beat=True)
    stage.follow("--detach", "--page-delay-ms", "100", "--limit", "10").end()
    stage.wait_for_pages(4)

    own_postgres.kill()
    own_postgres.start()

    stage.assert_done_once(stage.watch())


@pytest.mark.long
def test_a_server_that_is_away_for_longer_than_all_retries_is_waited_for(
    own_stage: MakeStage, own_postgres: Postgres
) -> None:
    stage = own_stage(database_url=own_postgres.url, BACKFILL_PAGE_RETRIES="1")
    stage.start_worker(beat=True)
    stage.follow("--detach", "--page-delay-ms", "100", "--limit", "10").end()
    stage.wait_for_pages(4)

    own_postgres.kill()
    wait_for(lambda: stage.logs().count("page put off for 4 s") >= 2, what="both lanes to be tried for the third time")
    own_postgres.start()

    stage.assert_done_once(stage.watch())
    assert "Traceback" not in stage.logs()


def play_deadlock(stage: Stage, *, host_looks_after: str) -> Following:
    """Make the host wait for a job locked by the page, and then the page for one locked by the host."""
    first, second, third = waiting_jobs(stage)[:3]
    with (
        psycopg.connect(stage.backfill.database_url) as gate,
        psycopg.connect(stage.backfill.database_url) as host,
        ThreadPoolExecutor() as threads,
    ):
        host.execute(f"SET deadlock_timeout = '{host_looks_after}'".encode())
        lock_job(gate, second)
        lock_job(host, third)
        run = stage.follow()
        wait_for(stage.blocked, what="the page to hold the first job and to wait for the second")
        other_way_round = threads.submit(lock_job, host, first)
        wait_for(lambda: waits_for_a_lock(stage, host), what="the host to wait for the first job")
        gate.rollback()
        other_way_round.result()
    return run


def waiting_jobs(stage: Stage) -> list[str]:
    """Return the leads whose existing job will be renewed, in the order in which a page locks them."""
    rows = stage.rows(
        "SELECT owed.lead FROM audit.owed JOIN audit.job ON \"dedupeKey\" = 'lead_scoring_backfill:' || owed.lead"
        " WHERE owed.what = 'job' ORDER BY owed.lead"
    )
    return [row["lead"] for row in rows]


def lock_job(connection: psycopg.Connection[Any], lead: str) -> None:
    """Lock a lead's job, as the host does while it works on it."""
    connection.execute(
        'SELECT FROM "BackgroundJob" WHERE "dedupeKey" = %s FOR UPDATE', [f"lead_scoring_backfill:{lead}"]
    )


def waits_for_a_lock(stage: Stage, connection: psycopg.Connection[Any]) -> bool:
    found = stage.rows(
        "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", connection.info.backend_pid
    )
    return bool(found)


def cut_connections(stage: Stage) -> None:
    """End all of the backfill's connections to its database."""
    stage.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'backfill'"
    )
