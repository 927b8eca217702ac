"""Query Redis directly: whether it answers and accepts writes, and where messages are. Celery isn't needed."""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

from redis import Redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from backfill_tasks.diagnosis.facts import BrokerView
from backfill_tasks.engine import heartbeat, redis_client
from backfill_tasks.engine.model import MESSAGE_FORMAT
from backfill_tasks.engine.rate import current_rate
from backfill_tasks.errors import UsageError
from backfill_tasks.settings import Settings

#: The maximum duration of one call, in seconds.
_TIMEOUT = 1.0

#: The maximum number of messages read, both from the queue and from those taken; each lane has one.
_MOST_MESSAGES = 10_000

#: The first word of an error, which redis-py drops if it has a class for the error.
_CODES = {OutOfMemoryError: "OOM", ReadOnlyError: "READONLY", NoPermissionError: "NOPERM"}

#: Where kombu keeps messages that are taken and not acknowledged.
_TAKEN = "unacked"


def ask(settings: Settings) -> BrokerView:
    """Return Redis' view. A Redis error becomes part of it."""
    try:
        redis = redis_client.connect(settings.redis_url, patience=0, timeout=_TIMEOUT)
        redis.ping()
        return BrokerView(
            refusal=_refusal(redis, settings.queue),
            queued=_ids(_queued(redis, settings.queue_of_format(MESSAGE_FORMAT))),
            taken=_ids(_taken(redis)),
            watchdog=heartbeat.age(redis, settings.queue),
            rate=_rate(redis, settings),
        )
    except RedisError as error:
        return BrokerView(error=_words(error))


def _refusal(redis: Redis, queue: str) -> str | None:
    """Return why Redis refuses a write, or None if it accepts one. Only an actual write can tell."""
    try:
        redis.set(f"backfill:probe:{queue}", 1, px=1)  # expires at once
    except ResponseError as error:
        return f"{_CODES.get(type(error), '')} {_words(error)}".strip()
    return None


def _queued(redis: Redis, queue: str) -> Iterable[str]:
    return cast("list[str]", redis.lrange(queue, 0, _MOST_MESSAGES - 1))


def _taken(redis: Redis) -> Iterable[str]:
    if redis.hlen(_TAKEN) > _MOST_MESSAGES:
        return ()
    return cast("list[str]", redis.hvals(_TAKEN))


def _ids(messages: Iterable[str]) -> frozenset[str]:
    """Return the task ids of messages. Junk, which anyone can push, has none."""
    found = set()
    for message in messages:
        with suppress(ValueError, LookupError, TypeError):
            content = json.loads(message)
            # A taken message is a list: the message, its exchange, its routing key.
            found.add(str((content[0] if isinstance(content, list) else content)["headers"]["id"]))
    return frozenset(found)


def _rate(redis: Redis, settings: Settings) -> str | None:
    with suppress(UsageError):
        return current_rate(redis, settings).text
    return None


def _words(error: Exception) -> str:
    first, *_ = str(error).splitlines() or [""]
    return first.rstrip(".") or type(error).__name__
