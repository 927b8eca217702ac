"""The watchdog's heartbeat in Redis: it shows commands whether a watchdog is running that reseeds stalled lanes."""

import logging

from redis import Redis
from redis.exceptions import RedisError

from backfill_tasks.engine import redis_client

logger = logging.getLogger(__name__)

#: How long a heartbeat is kept, in seconds. Its age is this minus its remaining time to live, so only Redis' clock
#: counts.
_KEEP_SECONDS = 86_400

#: The time-out for recording a heartbeat, in seconds.
_TIMEOUT = 1.0


def beat(redis_url: str, queue: str) -> None:
    """Record a heartbeat of a queue's watchdog. The watchdog works without it, so an error is only logged."""
    try:
        with redis_client.connect(redis_url, patience=0, timeout=_TIMEOUT) as redis:
            redis.set(_key(queue), 1, ex=_KEEP_SECONDS)
    except RedisError as error:
        logger.warning(
            "Redis didn't accept the watchdog's heartbeat, so commands may say that no watchdog runs: %s", error
        )


def age(redis: Redis, queue: str) -> float | None:
    """Return how many seconds ago the watchdog last ran; None: not within a day, or Redis has lost it.

    Raises:
        RedisError: Redis doesn't answer.
    """
    left = redis.pttl(_key(queue))
    return None if left < 0 else _KEEP_SECONDS - left / 1000


def _key(queue: str) -> str:
    return f"backfill:watchdog:{queue}"
