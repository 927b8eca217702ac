"""A run without a worker says so, and starts when one comes online."""

from collections.abc import Iterator
from subprocess import CompletedProcess

import fork_server
import pytest
from acceptance.commands import Follow
from acceptance.host import Host
from harness import PATIENCE, Backfill, Worker

from backfill_tasks.engine.model import MESSAGE_FORMAT


@pytest.fixture
def late_worker(alone: Backfill, inhabited: Host, follow: Follow) -> Iterator[str]:
    """The standard error of a run that began without a worker and got one later."""
    process = follow(alone, "run", "--apply")
    inhabited.wait_for_a_run()
    worker = Worker.start(alone)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    yield errors
    worker.stop()


def test_it_says_so_and_starts_when_one_comes(late_worker: str, inhabited: Host) -> None:
    assert "No worker is online. Start one: backfill worker" in late_worker
    assert "The run starts as soon as a worker is online." in late_worker
    assert inhabited.changed() == inhabited.due()


def test_a_worker_of_another_environment_does_not_count(backfill: Backfill, worker: Worker) -> None:
    done = backfill.set(BACKFILL_QUEUE="another")("run", "--apply", "--detach")

    assert "No worker is online." in done.stderr


@pytest.fixture
def cancelled_consumer(backfill: Backfill, worker: Worker) -> Iterator[None]:
    """Makes the worker stop taking pages during the test; other tests share the worker."""
    queue = f"{backfill.environment.get('BACKFILL_QUEUE', 'backfill')}.v{MESSAGE_FORMAT}"
    assert celery(backfill, "control", "cancel_consumer", queue).returncode == 0
    yield
    assert celery(backfill, "control", "add_consumer", queue).returncode == 0


@pytest.mark.usefixtures("cancelled_consumer")
def test_a_worker_whose_consumer_was_cancelled_does_not_count(backfill: Backfill) -> None:
    done = backfill("run", "--apply", "--detach")
    shown = backfill("doctor").stdout

    assert "No worker is online." in done.stderr
    assert "WRONG  no worker is online" in shown


@pytest.mark.parametrize("url", ["", "mysql://host/db"])
def test_a_worker_that_can_do_no_page_refuses_to_start_in_one_line(backfill: Backfill, url: str) -> None:
    refused = celery(backfill.set(DATABASE_URL=url), "worker")

    assert refused.returncode == 1
    assert refused.stderr.startswith("The worker can't start: DATABASE_URL")
    assert refused.stderr.count("\n") == 1


def celery(backfill: Backfill, *arguments: str) -> CompletedProcess[str]:
    """Run one of Celery's own commands to its end."""
    return fork_server.run(
        [backfill.programs / "celery", "-A", "backfill_tasks", *arguments],
        cwd=backfill.directory,
        env=dict(backfill.environment),
        timeout=120,
    )


def test_with_a_worker_nothing_is_said_of_it(backfill: Backfill, worker: Worker) -> None:
    done = backfill("run", "--apply")

    assert "worker" not in done.stderr
