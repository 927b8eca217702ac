"""The fleet's limits on requests and tokens per minute: one pair per account, in Redis, on Redis' clock."""

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from backfill_tasks import redis_address
from backfill_tasks.engine.redis_client import SOCKETS
from backfill_tasks.settings import Settings

logger = logging.getLogger(__name__)

_MINUTE = 60_000_000
_SECOND = 1_000_000

#: A server that asks for more than this is asked again after it, in seconds.
_LONGEST_HOLD = 600.0

#: How long to wait between two attempts to reach Redis, in seconds.
_REDIS_RETRY = 1.0

#: The longest wait between two questions, in seconds: another worker may have corrected the limit meanwhile.
_LONGEST_WAIT = 5.0


class _Script(Protocol):
    async def __call__(self, *, keys: list[str], args: list[Any]) -> Any: ...


class Limits:
    """The limits of one account. A worker that has no answer from Redis sends nothing.

    In any minute, all workers together start at most the limit of requests, and at most the limit of tokens plus the
    tokens of one request. Tokens are estimated when a request starts, and corrected when its answer says how many they
    were. A request whose grant is lost on the way from Redis isn't sent, and its share isn't given back.

    Within a process, requests are granted in the order in which they ask. Between processes, none is.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._take: _Script = redis.register_script(_lua("take"))
        self._correct: _Script = redis.register_script(_lua("correct"))
        self._key = f"backfill:openai:{_account(settings)}"
        self._request_us, self._request_tolerance = _spacing(settings.openai_requests_per_minute)
        # One second more than a minute makes up for the second's worth that may start at once.
        tokens = settings.openai_tokens_per_minute
        self._token_us = (_MINUTE + _SECOND) / tokens if tokens else 0.0
        self._turn = asyncio.Lock()

    async def take(self, tokens: int) -> None:
        """Wait until one request of about so many tokens may start. It must start at once."""
        async with self._turn:
            while True:
                wait = await self._ask(tokens)
                if not wait:
                    return
                await asyncio.sleep(wait)

    async def correct(self, excess: int, *, hold: float = 0.0) -> None:
        """Report that a request took `excess` tokens more than estimated, and hold all requests for some seconds.

        If Redis doesn't answer, the estimate stands.
        """
        held = min(hold, _LONGEST_HOLD)
        if (excess and self._token_us) or held > 0:
            try:
                await self._correct(keys=[self._key], args=[repr(excess * self._token_us), repr(held * _SECOND)])
            except RedisError as error:
                logger.warning("a scoring limit could not be corrected: Redis: %s", type(error).__name__)

    async def _ask(self, tokens: int) -> float:
        """Return 0 if the request is granted, else the seconds to wait before asking again."""
        shares = [self._request_us, self._request_tolerance, tokens * self._token_us, _SECOND]
        try:
            granted, wait_us = await self._take(keys=[self._key], args=[repr(each) for each in shares])
        except RedisError as error:
            logger.warning("no request is sent while Redis doesn't answer (%s)", type(error).__name__)
            return _REDIS_RETRY
        if granted:
            return 0.0
        # Other processes wait for the same moment: spread their questions.
        wait: float = min(wait_us / _SECOND, _LONGEST_WAIT)
        return wait * random.uniform(1.0, 1.1) + 0.001  # noqa: S311  no secret


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Limits]:
    """Open a connection to Redis and yield the limits."""
    sockets = {} if settings.redis_url.startswith("unix:") else SOCKETS
    arguments = {**redis_address.parse(settings.redis_url).client_arguments, **sockets}
    redis = Redis(**arguments, decode_responses=True)
    try:
        yield Limits(redis, settings)
    finally:
        await redis.aclose()


def _spacing(per_minute: int | None) -> tuple[float, float]:
    """Return the µs between two requests, and how many µs a request may come early.

    A second's worth may start at once. The spacing makes up for it, so that no minute has more than the limit.
    """
    if per_minute is None:
        return 0.0, 0.0
    burst = max(1, per_minute // 60)
    interval = _MINUTE / (per_minute - burst + 1)
    return interval, (burst - 1) * interval


def _account(settings: Settings) -> str:
    """Return a name of the account that tells nothing about its key."""
    secret = f"{settings.openai_base_url}\n{settings.openai_api_key}"
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def _lua(name: str) -> str:
    return files("backfill_tasks.scoring.openai").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
