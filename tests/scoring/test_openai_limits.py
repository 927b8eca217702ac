"""The fleet's limits on requests and tokens in Redis, on Redis' own clock."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from harness import wait_for
from redis import Redis
from refusing import refusing
from scoring.conftest import MakeOpenAI
from scoring.openai_server import Behaviour, OpenAIServer, failing
from scoring.samples import conversation

from backfill_tasks import settings
from backfill_tasks.engine import redis_client
from backfill_tasks.scoring.contract import PostponedError, Usage
from backfill_tasks.scoring.openai import limits
from sandbox.servers import Servers

LEAD = conversation("Sounds good.")


def configured(server: Servers, **variables: str) -> settings.Settings:
    """Return settings of an account of the test's own."""
    return settings.load({"REDIS_URL": server.redis_url, "OPENAI_API_KEY": secrets.token_hex(8), **variables})


@pytest.fixture
def redis(server: Servers) -> Iterator[Redis]:
    with redis_client.connect(server.redis_url) as client:
        yield client


async def take_for(seconds: float, *, tokens: int, of: settings.Settings, workers: int = 3) -> list[float]:
    """Take requests with several workers at once for a time, and return when each was granted."""
    granted: list[float] = []

    async def work() -> None:
        async with limits.opened(of) as shared:
            while True:
                await shared.take(tokens)
                granted.append(time.monotonic())

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(work() for _ in range(workers)))
    return granted


@asynccontextmanager
async def two_workers(of: settings.Settings) -> AsyncIterator[tuple[limits.Limits, limits.Limits]]:
    async with limits.opened(of) as one, limits.opened(of) as other:
        yield one, other


async def waits(shared: limits.Limits, tokens: int, *, seconds: float = 0.3) -> bool:
    """Return whether a request has to wait longer than a moment."""
    try:
        async with asyncio.timeout(seconds):
            await shared.take(tokens)
    except TimeoutError:
        return True
    return False


def test_all_workers_together_keep_to_the_limit_of_requests(server: Servers) -> None:
    of = configured(server, BACKFILL_OPENAI_REQUESTS_PER_MINUTE="600", BACKFILL_OPENAI_TOKENS_PER_MINUTE="none")

    granted = asyncio.run(take_for(3.0, tokens=1, of=of))

    # 10 may start at once, then 591 in a minute: that makes 600 in any minute.
    assert len(granted) <= 10 + 591 * 3 / 60 + 1
    assert len(granted) > 10


@pytest.mark.parametrize("per_minute", [1, 2, 59, 60, 61, 119, 120, 500, 10_000])
def test_no_minute_has_more_than_the_limit(per_minute: int) -> None:
    interval, tolerance = limits._spacing(per_minute)  # noqa: SLF001  the arithmetic alone, for many limits

    at_once = tolerance / interval + 1
    in_the_rest = 60_000_000 / interval

    # A minute has its first instant, but not its last: what would start there belongs to the next.
    assert at_once + in_the_rest - 1 <= per_minute + 1e-6


def test_all_workers_together_keep_to_the_limit_of_tokens(server: Servers) -> None:
    of = configured(server, BACKFILL_OPENAI_REQUESTS_PER_MINUTE="none", BACKFILL_OPENAI_TOKENS_PER_MINUTE="60000")

    granted = asyncio.run(take_for(3.0, tokens=100, of=of))

    # A second's worth may start at once, and one request beyond it.
    assert len(granted) <= (1 + 3) * 60_000 / 61 / 100 + 1
    assert len(granted) > 10


def test_a_request_larger_than_the_limit_is_granted_and_the_next_ones_wait_for_it(server: Servers) -> None:
    of = configured(server, BACKFILL_OPENAI_REQUESTS_PER_MINUTE="none", BACKFILL_OPENAI_TOKENS_PER_MINUTE="1000")

    async def check() -> None:
        async with two_workers(of) as (one, other):
            assert not await waits(one, 50_000, seconds=10)
            assert await waits(other, 1)

    asyncio.run(check())


def test_tokens_that_weren_t_used_are_given_back(server: Servers) -> None:
    of = configured(server, BACKFILL_OPENAI_REQUESTS_PER_MINUTE="none", BACKFILL_OPENAI_TOKENS_PER_MINUTE="1000")

    async def check() -> None:
        async with two_workers(of) as (one, other):
            await one.take(1_000)
            await one.correct(-1_000)
            assert not await waits(other, 1, seconds=10)

    asyncio.run(check())


def test_a_wait_that_the_server_asks_for_holds_every_worker(server: Servers) -> None:
    of = configured(server)

    async def check() -> float:
        async with two_workers(of) as (one, other):
            await one.correct(0, hold=1.0)
            began = time.monotonic()
            await other.take(1)
            return time.monotonic() - began

    assert asyncio.run(check()) > 0.9


def test_accounts_don_t_share_limits_and_redis_has_no_key_of_theirs(server: Servers, redis: Redis) -> None:
    one = configured(server, BACKFILL_OPENAI_REQUESTS_PER_MINUTE="1")
    other = configured(server, BACKFILL_OPENAI_REQUESTS_PER_MINUTE="1")

    async def check() -> None:
        async with limits.opened(one) as of_one, limits.opened(other) as of_other:
            await of_one.take(1)
            assert await waits(of_one, 1)
            assert not await waits(of_other, 1, seconds=10)

    asyncio.run(check())

    names = "\n".join(redis.keys("backfill:openai:*"))
    assert one.openai_api_key is not None
    assert one.openai_api_key not in names


@pytest.mark.parametrize("junk", ["string", "number"])
def test_junk_in_redis_is_replaced(server: Servers, redis: Redis, junk: str) -> None:
    of = configured(server)
    key = f"backfill:openai:{limits._account(of)}"  # noqa: SLF001  the key is nobody else's business
    if junk == "string":
        redis.set(key, "x")
    else:
        redis.hset(key, mapping={"requests": "x", "tokens": "y", "held": "z"})

    async def check() -> None:
        async with limits.opened(of) as shared:
            assert not await waits(shared, 1, seconds=10)

    asyncio.run(check())


def test_a_clock_that_was_set_back_doesn_t_stop_the_fleet_for_long(server: Servers, redis: Redis) -> None:
    of = configured(server)
    key = f"backfill:openai:{limits._account(of)}"  # noqa: SLF001
    redis.hset(key, mapping={"held": str(2**60)})

    wait = redis.register_script(limits._lua("take"))(keys=[key], args=[1, 1, 1, 1])[1]  # noqa: SLF001

    assert wait <= 3600 * 1_000_000


def test_no_request_is_sent_while_redis_doesn_t_answer(
    server: Servers, make_openai: MakeOpenAI, provider: OpenAIServer
) -> None:
    with refusing(urlsplit(server.redis_url).port or 6379) as proxy:
        openai = make_openai(REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")

        async def check() -> None:
            async with openai.opened() as scorer:
                with proxy.refusing("LOADING Redis is loading the dataset in memory"):
                    call = asyncio.create_task(scorer.score(LEAD))
                    await asyncio.sleep(1.5)
                    assert provider.requests == []
                    assert not call.done()
                await call

        asyncio.run(check())

    assert len(provider.requests) == 1


def test_a_call_without_room_ends_untried(
    make_openai: MakeOpenAI, provider: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfill_tasks.scoring.openai.scorer._LATEST_START", 1.0)
    openai = make_openai(BACKFILL_OPENAI_REQUESTS_PER_MINUTE="1")

    async def check() -> None:
        async with openai.opened() as scorer:
            await scorer.score(LEAD)
            with pytest.raises(PostponedError, match="had no room for a request within 1 s") as postponed:
                await scorer.score(LEAD)
            assert postponed.value.usage == Usage()

    asyncio.run(check())

    assert len(provider.requests) == 1


def test_a_429_holds_the_whole_fleet(make_openai: MakeOpenAI, provider: OpenAIServer) -> None:
    provider.then(failing(429, retry_after="1"))
    one, other = make_openai(), make_openai()

    async def check() -> None:
        async with one.opened() as first, other.opened() as second:
            call = asyncio.create_task(first.score(LEAD))
            await asyncio.to_thread(wait_for, lambda: provider.answered, what="an answer")
            await asyncio.sleep(0.2)  # for the report to Redis
            await asyncio.gather(call, second.score(LEAD))

    asyncio.run(check())

    refused, *rest = provider.arrivals
    assert min(rest) - refused >= 0.9


def test_a_server_that_has_no_room_left_is_left_alone(make_openai: MakeOpenAI, provider: OpenAIServer) -> None:
    full = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-reset-requests": "1s",
    }
    provider.then(Behaviour(headers=full))
    openai = make_openai()

    async def check() -> None:
        async with openai.opened() as scorer:
            await scorer.score(LEAD)
            await scorer.score(LEAD)

    asyncio.run(check())

    first, second = provider.arrivals
    assert second - first >= 0.9
