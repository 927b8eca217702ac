"""Faults of the messages: duplicated, reordered, late, malformed or lost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from chaos.fleet import QUEUE, Fleet

#: Values that aren't messages, and messages that lack what a consumer needs.
JUNK: tuple[str, ...] = (
    "x",
    "",
    "{}",
    "[1, 2]",
    '{"body": "e30=", "headers": {}, "properties": {}}',
    (
        '{"body": "not base64!", "content-type": "application/json", "content-encoding": "utf-8",'
        ' "headers": {"id": "junk", "task": "backfill.page"},'
        ' "properties": {"delivery_tag": "junk-1", "delivery_info": {}, "body_encoding": "base64"}}'
    ),
    (
        '{"body": "W1tdLCB7fV0=", "content-type": "application/json", "content-encoding": "utf-8",'
        ' "headers": {"id": "junk", "task": "backfill.page"},'
        ' "properties": {"delivery_tag": "junk-2", "delivery_info": {}, "body_encoding": "base64"}}'
    ),
    (
        '{"body": "W1tdLCB7fSwge31d", "content-type": "application/json", "content-encoding": "utf-8",'
        ' "headers": {"id": 7, "task": ["backfill.page"], "retries": "many"},'
        ' "properties": {"delivery_tag": "junk-3", "delivery_info": {}, "body_encoding": "base64"}}'
    ),
)


def _queues(client: Any) -> list[bytes]:
    """Return the lists in which messages wait, of any message format."""
    return [key for key in client.keys(f"{QUEUE}.v*") if client.type(key) == b"list"]


def _queue(client: Any) -> str:
    """Return the queue in use. Its key exists only while a message waits in it."""
    from backfill_tasks.engine.model import MESSAGE_FORMAT  # noqa: PLC0415

    found = _queues(client)
    return found[0].decode() if found else f"{QUEUE}.v{MESSAGE_FORMAT}"


@contextmanager
def _duplicated(fleet: Fleet, _: Random) -> Iterator[None]:
    """Deliver every message once more, including those that workers have taken."""
    with fleet.direct_redis() as client:
        waiting: Any = [message for queue in _queues(client) for message in client.lrange(queue, 0, -1)]
        taken: Any = client.hvals("unacked")
        copies = [*waiting, *(json.dumps(json.loads(each)[0]) for each in taken if each.startswith(b"["))]
        if copies:
            client.lpush(_queue(client), *copies)
    yield


@contextmanager
def _reordered(fleet: Fleet, random: Random) -> Iterator[None]:
    with fleet.direct_redis() as client:
        for queue in _queues(client):
            waiting: Any = client.lrange(queue, 0, -1)
            random.shuffle(waiting)
            with client.pipeline() as pipe:
                pipe.delete(queue)
                if waiting:
                    pipe.rpush(queue, *waiting)
                pipe.execute()
    yield


@contextmanager
def _late(fleet: Fleet, _: Random) -> Iterator[None]:
    with fleet.direct_redis() as client:
        kept: list[tuple[bytes, Any]] = []
        for queue in _queues(client):
            while (message := client.rpop(queue)) is not None:
                kept.append((queue, message))
        yield
        for queue, message in kept:
            client.lpush(queue, message)


@contextmanager
def _malformed(fleet: Fleet, random: Random) -> Iterator[None]:
    with fleet.direct_redis() as client:
        for junk in random.sample(JUNK, 3):
            client.rpush(_queue(client), junk)
    yield


@contextmanager
def _lost(fleet: Fleet, _: Random) -> Iterator[None]:
    """Delete every waiting message, and Redis' record of those that workers have taken."""
    with fleet.direct_redis() as client:
        client.delete(*_queues(client), "unacked", "unacked_index")
    yield


PLAYERS = {
    "messages: duplicated": _duplicated,
    "messages: reordered": _reordered,
    "messages: late": _late,
    "messages: malformed": _malformed,
    "messages: lost": _lost,
}
