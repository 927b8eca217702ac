"""A run that no worker is there for: it says so, and starts when one comes."""

from collections.abc import Iterator

import pytest
from acceptance.commands import Follow
from acceptance.host import Host
from harness import Backfill, Worker


@pytest.fixture
def late_worker(alone: Backfill, inhabited: Host, follow: Follow) -> Iterator[str]:
    """What a run has said on standard error that began without a worker, and whose worker came."""
    process = follow(alone, "run", "--apply")
    inhabited.wait_for_a_run()
    worker = Worker.start(alone)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    yield errors
    worker.stop()


def test_it_says_so_and_starts_when_one_comes(late_worker: str, inhabited: Host) -> None:
    assert "No worker is online. Start one: celery -A backfill_tasks worker" in late_worker
    assert "The run starts when one comes." in late_worker
    assert inhabited.changed() == inhabited.due()


def test_a_worker_of_another_environment_does_not_count(backfill: Backfill, worker: Worker) -> None:
    done = backfill.set(BACKFILL_QUEUE="another")("run", "--apply", "--detach")

    assert "No worker is online." in done.stderr


def test_with_a_worker_nothing_is_said_of_it(backfill: Backfill, worker: Worker) -> None:
    done = backfill("run", "--apply")

    assert "worker" not in done.stderr
