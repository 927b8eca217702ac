"""Poison messages are parked with their reason; workers survive, and the run continues."""

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from faults.stage import MakeStage, Stage
from harness import wait_for
from long_forms import long, sampled

from backfill_tasks.worker.dead_letters import DeadLetter, DeadLetters
from sandbox.servers import Redis

#: Removes a key when passed to `broken`.
GONE = object()


@pytest.fixture(scope="module")
def fleet(make_stage: MakeStage, own_redis: Redis) -> Iterator[Stage]:
    """One worker on its own Redis; only the test triggers the watchdog."""
    stage = make_stage(redis_url=own_redis.url)
    yield stage
    stage.close()


@pytest.fixture
def survivor(fleet: Stage) -> Iterator[Stage]:
    """That worker; it must be alive at the end of the test."""
    fleet.restore()
    fleet.staff(1)
    with fleet.redis() as client:
        client.delete(letters_of(fleet).key)
    yield fleet
    (worker,) = fleet.workers
    assert worker.process.poll() is None, worker.output


@pytest.fixture
def stage(survivor: Stage) -> Iterator[Stage]:
    """That worker; it must also have logged no traceback."""
    before = survivor.logs()
    yield survivor
    assert "Traceback" not in survivor.logs().removeprefix(before)


def letters_of(stage: Stage) -> DeadLetters:
    with stage.redis() as client:
        return DeadLetters(client, stage.backfill.environment["BACKFILL_QUEUE"])


def parked(stage: Stage, number: int = 1) -> list[DeadLetter]:
    """Wait for this many dead letters and return them, newest first."""
    letters = letters_of(stage)
    with stage.redis() as client:
        wait_for(
            lambda: client.type(letters.key) == "list", what=f"a dead letter; the worker said: {stage.logs()[-2000:]}"
        )
    wait_for(lambda: letters.count() >= number, what=f"{number} dead letters; the worker said: {stage.logs()[-2000:]}")
    return list(letters.newest())


def push(stage: Stage, raw: bytes | str) -> None:
    with stage.redis() as client:
        client.lpush(stage.queue, raw)


def task(queue: str, *, body: Any = None, **headers: Any) -> dict[str, Any]:
    """Return a valid message for a page of no run."""
    page = {"run": "no-such-run", "lane": 1, "page": 1, "generation": 1}
    content = [[], page, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}] if body is None else body
    return {
        "body": base64.b64encode(json.dumps(content).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": "backfill.page", "id": "a-1", "retries": 0, "eta": None, **headers},
        "properties": {
            "delivery_tag": "tag-1",
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
            "priority": 0,
        },
    }


def broken(queue: str, path: str, value: Any) -> str:
    """Return the message with one of its parts changed or removed."""
    message = copy.deepcopy(task(queue))
    *parents, name = path.split(".")
    part = message
    for each in parents:
        part = part[each]
    if value is GONE:
        del part[name]
    else:
        part[name] = value
    return json.dumps(message)


BROKEN = [
    ("content-type", GONE, "content-type"),
    ("content-type", "application/x-python-serialize", "type"),
    ("content-type", 7, "content-type"),
    ("content-encoding", GONE, "content-encoding"),
    ("content-encoding", "no-such-code", "type"),
    ("body", GONE, "body"),
    ("body", None, "body"),
    ("body", "%%%", "base64"),
    ("body", base64.b64encode(b"\xff\xfe").decode(), "body is not JSON"),
    ("body", base64.b64encode(b"[[], {}").decode(), "body is not JSON"),
    ("body", base64.b64encode(b"[" * 20_000).decode(), "body is not JSON"),
    ("body", base64.b64encode(b"[[], {}]").decode(), "body is not"),
    ("body", base64.b64encode(b'{"task": "backfill.page"}').decode(), "body is not"),
    ("body", base64.b64encode(b'[[], {}, {"callbacks": [{"task": "backfill.page"}]}]').decode(), "callbacks"),
    ("body", base64.b64encode(b"[" + b"1," * 100_000 + b"1]").decode(), "larger"),
    ("headers", GONE, "headers"),
    ("headers", [], "headers"),
    ("headers", "x", "headers"),
    ("headers.id", GONE, "id"),
    ("headers.id", 7, "id"),
    ("headers.id", {"a": 1}, "id"),
    ("headers.id", "x" * 300, "id"),
    ("headers.task", GONE, "task"),
    ("headers.task", ["backfill.page"], "task"),
    ("headers.task", "no.such.task", "no task has this name"),
    ("headers.task", "celery.chord_unlock", "no task has this name"),
    ("headers.eta", "soon", "eta"),
    ("headers.eta", 7, "eta"),
    ("headers.eta", "0001-01-01T00:00:00+14:00", "eta"),
    ("headers.eta", "2222-01-01T00:00:00+00:00", "eta"),
    ("headers.expires", "never", "expires"),
    ("headers.retries", "many", "retries"),
    ("headers.retries", 10**40, "retries"),
    ("headers.timelimit", "x", "timelimit"),
    ("headers.timelimit", [1, 2, 3], "timelimit"),
    ("headers.shadow", {"a": 1}, "shadow"),
    ("headers.root_id", [1], "root_id"),
    ("headers.kwargsrepr", 7, "kwargsrepr"),
    ("headers.compression", "zlib", "compressed"),
    ("headers.stamps", [1], "stamps"),
    ("headers.backfill_format", "new", "backfill_format"),
    ("properties", GONE, "properties"),
    ("properties", [], "properties"),
    ("properties.delivery_tag", GONE, "delivery_tag"),
    ("properties.delivery_tag", {}, "delivery_tag"),
    ("properties.delivery_info", GONE, "delivery_info"),
    ("properties.delivery_info", "x", "delivery_info"),
    ("properties.delivery_info.exchange", GONE, "exchange"),
    ("properties.delivery_info.routing_key", 7, "routing_key"),
    ("properties.body_encoding", "rot13", "body_encoding"),
    ("properties.priority", "high", "priority"),
    ("properties.priority", float("inf"), "priority"),
]


@pytest.mark.parametrize(("path", "value", "reason"), sampled(BROKEN, every=10))
def test_a_message_with_a_broken_part_is_parked_with_its_reason(
    stage: Stage, path: str, value: Any, reason: str
) -> None:
    push(stage, broken(stage.queue, path, value))

    (letter,) = parked(stage)
    assert reason in letter.reason
    assert_nothing_is_left(stage)


@pytest.mark.parametrize(
    "raw",
    [
        "x",
        "{" * 50_000,
        b"\x80\x04\x95",
        *long("", "null", "[]", "7", '"x"', "{}", b"\x00" * 100, "9" * 10_000, b"\x1b]52;c;!\x07"),
    ],
    ids=repr,
)
def test_a_non_message_is_parked(stage: Stage, raw: bytes | str) -> None:
    push(stage, raw)

    (letter,) = parked(stage)
    assert letter.queue == stage.queue
    assert letter.size == len(raw)
    assert_nothing_is_left(stage)


PAGE = {"run": "no-such-run", "lane": 1, "page": 1, "generation": 1}


@pytest.mark.parametrize(
    "body",
    [
        [[1], PAGE, {}],
        [[], {**PAGE, "more": 1}, {}],
        [[], {**PAGE, "page": "x"}, {}],
        *long(
            [[], {}, {}],
            [[], {"run": "r", "page": 1, "generation": 1}, {}],
            [[], {**PAGE, "page": None}, {}],
            [[], {**PAGE, "page": True}, {}],
            [[], {**PAGE, "page": 1.5}, {}],
            [[], {**PAGE, "page": -1}, {}],
            [[], {**PAGE, "page": 10**30}, {}],
            [[], {**PAGE, "lane": 2**31}, {}],
            [[], {**PAGE, "generation": [1]}, {}],
            [[], {**PAGE, "waits": "x"}, {}],
            [[], {**PAGE, "run": 7}, {}],
            [[], {**PAGE, "run": "a\x00b"}, {}],
            [[], {**PAGE, "run": "a\x1b[2J"}, {}],
            [[], {**PAGE, "run": "x" * 10_000}, {}],
        ),
    ],
    ids=repr,
)
def test_a_page_task_with_invalid_arguments_is_parked(stage: Stage, body: Any) -> None:
    push(stage, json.dumps(task(stage.queue, body=body)))

    parked(stage)
    assert_nothing_is_left(stage)


def test_a_watchdog_task_with_arguments_is_parked(stage: Stage) -> None:
    push(stage, json.dumps(task(stage.queue, task="backfill.watchdog")))

    (letter,) = parked(stage)
    assert "arguments" in letter.reason


def test_a_valid_message_is_not_parked(stage: Stage) -> None:
    push(stage, json.dumps(task(stage.queue)))

    wait_for(lambda: "page unknown: run=no-such-run" in stage.logs(), what="the page to be refused")
    assert letters_of(stage).count() == 0


def test_a_letter_is_truncated_and_logged_in_one_escaped_line(stage: Stage) -> None:
    before = len(stage.logs())

    push(stage, "\x1b]52;c;evil\x07\nERROR forged line\n" + "x" * 100_000)

    (letter,) = parked(stage)
    assert letter.size > 100_000
    assert len(letter.message) < 10_000
    said = stage.logs()[before:]
    assert len(said) < 1_000
    assert "\x1b" not in said
    assert "\nERROR forged" not in said


@pytest.mark.long
def test_the_number_of_kept_letters_is_bounded(stage: Stage) -> None:
    with stage.redis() as client:
        client.lpush(letters_of(stage).key, *["old"] * 1_000)

    push(stage, "x")

    newest = wait_for(lambda: (found := letters_of(stage).newest(1)) and found[0].message == "x", what="the letter")
    assert newest
    assert letters_of(stage).count() == 1_000


@pytest.mark.parametrize("kind", ["string", *long("hash")])
@pytest.mark.parametrize(
    "key",
    ["{queue}", *long("{queue}\x06\x163", "unacked_index", "_kombu.binding.{queue}", "backfill:dead-letters:{name}")],
)
def test_a_worker_survives_a_key_of_the_wrong_type(stage: Stage, key: str, kind: str) -> None:
    spoil(stage, key, kind)

    push_when_possible(stage, "x")

    parked(stage)
    stage.assert_done_once(stage.run())


@pytest.mark.long
def test_a_worker_survives_a_string_in_place_of_the_unacknowledged_messages(stage: Stage) -> None:
    spoil(stage, "unacked", "string")

    stage.assert_done_once(stage.run())


@pytest.mark.long
def test_a_worker_starts_despite_a_queue_of_the_wrong_type(stage: Stage) -> None:
    for worker in stage.workers:
        worker.stop()
    spoil(stage, "{queue}", "string")
    spoil(stage, "_kombu.binding.{queue}", "string")

    stage.staff(1)

    stage.assert_done_once(stage.run())
    with stage.redis() as client:
        assert client.get(f"backfill:set-aside:{stage.queue}") == "x"


@pytest.mark.long
def test_junk_among_unacknowledged_messages_does_not_block_redelivery(stage: Stage) -> None:
    (worker,) = stage.workers
    worker.stop()
    lost = json.dumps([task(stage.queue, id="lost"), "", stage.queue])
    junk = {
        "j1": "x",
        "j2": "[]",
        "j3": "[1, 2, 3]",
        "j4": '[{"headers": 1}, "", "q"]',
        "j5": b"\xff",
        "j6": "[{}, [], {}]",
    }
    with stage.redis() as client:
        client.hset("unacked", mapping={**junk, "lost": lost})
        client.zadd("unacked_index", {name: number for number, name in enumerate([*junk, "lost", "no message"], 1)})

    stage.staff(1)

    assert len(parked(stage, len(junk))) == len(junk)
    wait_for(lambda: "page unknown: run=no-such-run" in stage.workers[0].output, what="the lost message to come back")
    assert_nothing_is_left(stage)


@pytest.mark.parametrize(
    "data",
    ["x", *long("[]", "{}", b"\xff", json.dumps(task("q")), json.dumps({**task("q"), "body": "e30="}))],
    ids=["text", "list", "empty", "binary", "a task", "an empty object"],
)
@pytest.mark.parametrize("channel", ["celeryev/worker.heartbeat", "pidbox", *long("celeryev/worker.\udcff")])
def test_a_worker_survives_a_junk_broadcast(survivor: Stage, channel: str, data: bytes | str) -> None:
    queue = survivor.backfill.environment["BACKFILL_QUEUE"]
    name = {"pidbox": f"{queue}.pidbox"}.get(channel, channel)
    with survivor.redis() as client:
        for _ in range(3):
            client.publish(f"/0.{name}".encode(errors="surrogateescape"), data)

    push(survivor, "x")

    parked(survivor)


def test_a_run_continues_amid_junk_and_does_every_lead_once(stage: Stage) -> None:
    run = stage.follow("--page-delay-ms", "20")
    for number in range(1, 40):
        path, value, _ = BROKEN[number]
        push(stage, broken(stage.queue, path, value))

    parked(stage, 39)
    stage.assert_done_once(run.end())


def spoil(stage: Stage, key: str, kind: str) -> None:
    """Put a value of the wrong type under a key."""
    key = key.format(queue=stage.queue, name=stage.backfill.environment["BACKFILL_QUEUE"])
    with stage.redis() as client:
        client.delete(key)
        if kind == "hash":
            client.hset(key, "x", "x")
        else:
            client.set(key, "x")


def push_when_possible(stage: Stage, raw: str) -> None:
    def pushed() -> bool:
        with stage.redis() as client:
            if client.type(stage.queue) not in {"none", "list"}:
                return False
            client.lpush(stage.queue, raw)
            return True

    wait_for(pushed, what="the queue to be a list again")


def assert_nothing_is_left(stage: Stage) -> None:
    """Assert that the message is neither in the queue nor unacknowledged."""
    with stage.redis() as client:
        wait_for(
            lambda: not client.llen(stage.queue) and not client.hlen("unacked") and not client.zcard("unacked_index"),
            what="the message to be gone",
        )
