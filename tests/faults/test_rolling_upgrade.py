"""Workers of two versions in one fleet: each leaves unknown messages to the other, and none is taken for lost."""

import json
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from faults.stage import MakeStage, Stage
from harness import wait_for

NEWER = 999
FIELDS = {"run": "a-run", "lane": "a word, and no number", "stretch": [1, 2]}


@pytest.fixture
def stage(own_stage: MakeStage) -> Stage:
    """A stage without beat, with a worker that takes one message at a time."""
    made = own_stage()
    made.start_worker(concurrency=1)
    return made


def waiting(stage: Stage, version: int) -> list[dict[str, Any]]:
    """Return the messages in the queue of a format."""
    with stage.redis() as client:
        found: Any = client.lrange(stage.queue_of_format(version), 0, -1)
    return [json.loads(message) for message in found]


def on_their_way(stage: Stage) -> set[str]:
    """Return the messages that the watchdog doesn't take for lost."""
    look = "from backfill_tasks.worker.fleet import messages_on_their_way; print(*messages_on_their_way())"
    done = subprocess.run(
        [sys.executable, "-c", look],
        cwd=stage.backfill.directory,
        env=dict(stage.backfill.environment),
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


@contextmanager
def a_lane_in_the_newer_queue(stage: Stage) -> Iterator[str]:
    """Yield the id of a run whose first lane keeps the worker busy; the second lane's message is in the newer queue."""
    stage.sabotage.plan("page recorded", "block", page=1)
    stage.follow("--lanes", "2")
    stage.sabotage.wait_until_reached("page recorded")
    with stage.redis() as client:
        wait_for(lambda: client.llen(stage.queue), what="the other lane's message to wait")
        client.rpoplpush(stage.queue, stage.queue_of_format(NEWER))
    (message,) = waiting(stage, NEWER)
    yield message["headers"]["id"]
    stage.sabotage.clear()


def test_a_message_of_a_newer_format_is_put_into_its_queue_as_it_is(stage: Stage) -> None:
    stage.deliver_newer(NEWER, "a-run:lane-01:000001:g1", **FIELDS)

    wait_for(lambda: waiting(stage, NEWER), what="the message to be left to a newer worker")

    (message,) = waiting(stage, NEWER)
    assert message["headers"]["id"] == "a-run:lane-01:000001:g1"
    assert message["headers"]["backfill_format"] == NEWER
    assert json.loads(b64decode(message["body"]))[1] == FIELDS
    assert "Traceback" not in stage.logs()


@pytest.mark.long
def test_a_run_goes_on_beside_messages_of_a_newer_format(stage: Stage) -> None:
    for number in range(5):
        stage.deliver_newer(NEWER, f"a-run:lane-01:00000{number}:g1", **FIELDS)

    run = stage.run()

    stage.assert_done_once(run)
    wait_for(lambda: len(waiting(stage, NEWER)) == 5, what="the messages to be left to newer workers")


def test_a_message_that_waits_for_a_worker_of_another_version_is_not_lost(stage: Stage) -> None:
    with a_lane_in_the_newer_queue(stage) as message:
        with Celery(broker=stage.backfill.environment["REDIS_URL"], set_as_current=False) as app:
            app.conf.control_exchange = stage.backfill.environment["BACKFILL_QUEUE"]
            app.control.add_consumer(stage.queue_of_format(NEWER), reply=True)

        assert message in on_their_way(stage)


@pytest.mark.long
def test_a_message_that_waits_where_nobody_listens_is_lost(stage: Stage) -> None:
    with a_lane_in_the_newer_queue(stage) as message:
        assert message not in on_their_way(stage)
