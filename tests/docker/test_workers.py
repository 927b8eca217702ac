"""The worker image under pytest-celery: a run, a killed worker, a lost broker, a stop, a rolling upgrade."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from containers import BackfillWorker, HostDatabase
from harness import wait_for
from pytest_celery import CeleryTestSetup

from backfill_tasks.engine.model import MESSAGE_FORMAT

pytestmark = pytest.mark.docker

Command = Callable[..., dict[str, Any]]

#: A run that lasts for some seconds.
SLOW = ("run", "--apply", "--detach", "--limit=25", "--page-delay-ms=300")


def assert_done_once(host: HostDatabase, worker: BackfillWorker, run: str) -> None:
    """Assert that the run is complete and read each lead once, and that its counts match the database."""
    host.wait_until_complete(run)
    assert worker.backfill("status", run)["counts"]["read"] == host.sample.eligible
    assert worker.backfill("verify", run)["clean"]


@contextmanager
def leads_locked(host: HostDatabase) -> Iterator[None]:
    """Lock every lead while the block runs, so that a page waits in mid-transaction."""
    with psycopg.connect(host.url) as connection:
        connection.execute('SELECT FROM "Lead" FOR UPDATE')
        yield


def is_blocked(host: HostDatabase) -> bool:
    """Return whether a page waits for a lock."""
    return bool(
        host.rows(
            "SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'backfill' AND wait_event_type = 'Lock'"
        )
    )


def test_a_worker_container_completes_a_run(celery_setup: CeleryTestSetup, host: HostDatabase) -> None:
    run = celery_setup.worker.backfill("run", "--apply", "--limit=50")

    assert_done_once(host, celery_setup.worker, run["run_id"])
    assert celery_setup.worker.pages() == run["pages"]


def test_a_run_survives_a_killed_worker_container(celery_setup: CeleryTestSetup, beat: Any, host: HostDatabase) -> None:
    worker = celery_setup.worker
    run = worker.backfill(*SLOW)["run_id"]
    host.wait_for_pages(4)

    worker.kill()
    worker.restart()

    assert_done_once(host, worker, run)


def test_a_run_survives_a_broker_container_that_restarts_empty(
    celery_setup: CeleryTestSetup, beat: Any, host: HostDatabase
) -> None:
    run = celery_setup.worker.backfill(*SLOW)["run_id"]
    host.wait_for_pages(4)

    celery_setup.broker.kill()
    celery_setup.broker.restart()

    assert_done_once(host, celery_setup.worker, run)


@pytest.mark.parametrize("settings", [{"BACKFILL_LOCK_TIMEOUT_MS": "60000", "BACKFILL_STATEMENT_TIMEOUT_MS": "60000"}])
def test_a_container_stopped_mid_page_returns_the_page(
    celery_setup: CeleryTestSetup, host: HostDatabase, settings: dict[str, str]
) -> None:
    worker = celery_setup.worker
    with leads_locked(host):
        run = worker.backfill("run", "--apply", "--detach", "--limit=50", "--lanes=1")["run_id"]
        wait_for(lambda: is_blocked(host), what="the page to wait for the lock")

        status = worker.container.stop()

        assert status == 0
        assert list(celery_setup.broker.container.waiting().values()) == [1]
    worker.restart()
    assert_done_once(host, worker, run)


def test_an_old_worker_leaves_a_newer_message_to_a_newer_worker(
    celery_setup: CeleryTestSetup, host: HostDatabase, newer_command: Command, request: pytest.FixtureRequest
) -> None:
    old = celery_setup.worker
    run = newer_command("run", "--apply", "--detach", "--limit=50")["run_id"]
    assert old.container.exec_run(old.container.attrs["Config"]["Healthcheck"]["Test"][1:]).exit_code == 0
    assert celery_setup.broker.container.waiting() == {"backfill.v999": 2}

    newer: BackfillWorker = request.getfixturevalue("newer_worker")

    assert_done_once(host, newer, run)
    assert old.pages() == 0


def test_an_old_worker_returns_a_misrouted_newer_message(
    celery_setup: CeleryTestSetup, host: HostDatabase, newer_command: Command, request: pytest.FixtureRequest
) -> None:
    old, broker = celery_setup.worker, celery_setup.broker.container
    run = newer_command("run", "--apply", "--detach", "--limit=50")["run_id"]

    broker.hand_over("backfill.v999", f"backfill.v{MESSAGE_FORMAT}")
    wait_for(lambda: broker.waiting() == {"backfill.v999": 2}, what="the old worker to leave both messages")
    newer: BackfillWorker = request.getfixturevalue("newer_worker")

    assert_done_once(host, newer, run)
    assert old.pages() == 0


def test_a_newer_worker_completes_an_old_workers_run(
    celery_setup: CeleryTestSetup, newer_worker: BackfillWorker, newer_beat: Any, host: HostDatabase
) -> None:
    old = celery_setup.worker
    run = old.backfill(*SLOW)["run_id"]
    host.wait_for_pages(4)

    old.kill("SIGTERM")

    assert_done_once(host, newer_worker, run)
    assert old.pages() > 0
    assert newer_worker.pages() > 0
