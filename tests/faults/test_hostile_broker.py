"""An attacker with write access to the broker can't run code, repeat a lead, or learn a secret."""

import base64
import json
import pickle
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from faults.stage import MakeStage, Stage
from harness import wait_for
from long_forms import long

from backfill_tasks.engine.model import PageMessage
from backfill_tasks.worker.dead_letters import DeadLetters
from sandbox.servers import Redis

PASSWORD = secrets.token_hex(16)


@pytest.fixture(scope="module")
def stage(make_stage: MakeStage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One worker on a Redis with a password."""
    with Redis(tmp_path_factory.mktemp("hostile"), password=PASSWORD) as redis:
        made = make_stage(redis_url=redis.url)
        made.start_worker()
        yield made
        made.close()


class Touch:
    """A pickle that creates a file when loaded."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self._file,)


def envelope(stage: Stage, body: bytes, kind: str, **headers: Any) -> str:
    """Return a message in the form in which kombu stores it in Redis."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-type": kind,
            "content-encoding": "binary" if "python" in kind else "utf-8",
            "headers": {"lang": "py", "task": "backfill.page", "id": "forged", "retries": 0, **headers},
            "properties": {
                "delivery_tag": secrets.token_hex(4),
                "delivery_info": {"exchange": "", "routing_key": stage.queue},
                "body_encoding": "base64",
                "priority": 0,
            },
        }
    )


def wait_for_letter(stage: Stage, reason: str) -> None:
    """Wait for a dead letter with this reason, then clear all."""
    with stage.redis() as client:
        letters = DeadLetters(client, stage.backfill.environment["BACKFILL_QUEUE"])
        wait_for(lambda: reason in [each.reason for each in letters.newest()], what=f"a dead letter: {reason}")
        letters.clear()


@pytest.mark.parametrize("kind", ["application/x-python-serialize", *long("application/data", "application/x-yaml")])
def test_a_pickle_is_never_loaded(stage: Stage, tmp_path: Path, kind: str) -> None:
    made = tmp_path / "made"
    message = envelope(stage, pickle.dumps(Touch(made)), kind)
    name = stage.backfill.environment["BACKFILL_QUEUE"]

    with stage.redis() as client:
        for channel in (f"/0.{name}.pidbox", "/0.celeryev/worker.heartbeat"):
            assert client.publish(channel, message) > 0
        client.lpush(f"{name}.watchdog", message)
        client.lpush(stage.queue, message)

    wait_for_letter(stage, "the body's type is not application/json in utf-8")
    assert not made.exists()


@pytest.mark.parametrize(
    "name", ["celery.backend_cleanup", *long("celery.chord_unlock", "celery.map", "os.system", "note_rate")]
)
def test_only_this_applications_two_tasks_can_be_called(stage: Stage, name: str) -> None:
    body = json.dumps([["true"], {}, {}]).encode()

    with stage.redis() as client:
        client.lpush(stage.queue, envelope(stage, body, "application/json", task=name))

    wait_for_letter(stage, "no task has this name")


@pytest.mark.long
def test_forged_pages_neither_repeat_nor_skip_a_lead(stage: Stage) -> None:
    following = stage.follow("--page-delay-ms", "200")
    run = stage.wait_for_pages(2)

    for page in range(1, 16):
        for generation in (1, 2, 1_000_000):
            stage.deliver(PageMessage(run, 1, page, generation, waits=page % 3))
    stage.deliver(PageMessage(run, 99, 1, 1))

    stage.assert_done_once(following.end())


def test_workers_remote_control_replies_contain_no_secret(stage: Stage) -> None:
    database = stage.backfill.database_url.partition("@")[0].rpartition(":")[2]
    with Celery(broker=stage.backfill.environment["REDIS_URL"], set_as_current=False) as attacker:
        attacker.conf.control_exchange = stage.backfill.environment["BACKFILL_QUEUE"]
        asked = {"conf": {"with_defaults": True}, "registered": {"taskinfoitems": ["app", "__dict__"]}}
        answers = {
            command: str(
                attacker.control.broadcast(command, arguments=asked.get(command, {}), reply=True, timeout=30, limit=1)
            )
            for command in ("conf", "registered", "report", "stats")
        }

    assert [command for command, answer in answers.items() if len(answer) < 50] == []
    assert [command for command, answer in answers.items() if PASSWORD in answer or database in answer] == []
