"""The faults that the campaign's TCP proxy injects, with a real Redis behind it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from chaos.proxy import Proxy
from sandbox.servers import Servers

Connect = Callable[..., Redis]


def seeded() -> Random:
    """Return a generator with a fixed seed."""
    return Random(7)  # noqa: S311 (a fault must be reproducible)


@pytest.fixture
def broker(server: Servers) -> Iterator[Redis]:
    """Yield a Redis client that bypasses the proxy."""
    with Redis.from_url(server.redis_url) as client:
        yield client


@pytest.fixture
def proxy(server: Servers) -> Iterator[Proxy]:
    with Proxy(urlsplit(server.redis_url).port or 6379) as opened:
        yield opened


@pytest.fixture
def connect(server: Servers, proxy: Proxy) -> Iterator[Connect]:
    """Yield a function that connects through the proxy: one connection per client, without retries."""
    opened: list[Redis] = []

    def open_one(*, timeout: float = 60) -> Redis:
        parts = urlsplit(server.redis_url)
        url = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}").geturl()
        client = Redis.from_url(url, socket_timeout=timeout, retry=Retry(NoBackoff(), 0), single_connection_client=True)
        opened.append(client)
        client.ping()
        return client

    yield open_one
    for client in opened:
        client.close()


def test_cut_resets_open_connections_and_allows_new_ones(proxy: Proxy, connect: Connect) -> None:
    client = connect()

    proxy.cut()

    with pytest.raises(RedisConnectionError):
        client.ping()
    assert connect().ping()


def test_unreachable_resets_new_connections_until_it_ends(proxy: Proxy, connect: Connect) -> None:
    with proxy.unreachable(), pytest.raises(RedisConnectionError):
        connect()

    assert connect().ping()


def test_slow_delays_the_command_and_its_reply(proxy: Proxy, connect: Connect) -> None:
    client = connect()
    drawn = seeded()
    delays = [drawn.uniform(0, 1) for _ in ("command", "reply")]

    with proxy.slow(seeded(), longest=1):
        began = time.monotonic()
        client.ping()
        took = time.monotonic() - began

    assert took >= sum(delays)


def test_half_open_silences_open_connections_on_both_sides(proxy: Proxy, connect: Connect, broker: Redis) -> None:
    client = connect(timeout=1)
    number = client.client_id()

    proxy.half_open()

    with pytest.raises(RedisTimeoutError):
        client.set("chaos:half-open", "arrived")
    client.close()
    assert connect().ping()
    assert broker.get("chaos:half-open") is None
    assert str(number) in {each["id"] for each in broker.client_list()}


def test_frozen_delivers_all_bytes_afterwards(proxy: Proxy, connect: Connect, broker: Redis) -> None:
    client = connect()
    with ThreadPoolExecutor(1) as pool:
        with proxy.frozen():
            answer = pool.submit(client.incr, "chaos:frozen")
            assert broker.get("chaos:frozen") is None
            assert not answer.done()
        assert answer.result(60) == 1
    broker.delete("chaos:frozen")


def test_losing_replies_drops_the_reply_of_an_executed_command(proxy: Proxy, connect: Connect, broker: Redis) -> None:
    client = connect()

    with proxy.losing_replies(seeded(), share=1), pytest.raises(RedisConnectionError):
        client.incr("chaos:reply-lost")

    assert broker.get("chaos:reply-lost") == b"1"
    broker.delete("chaos:reply-lost")
