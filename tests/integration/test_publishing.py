"""A message is published even if the connection breaks at the worst moment."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

from harness import wait_for
from kombu import Exchange, Producer, Queue
from redis import Redis

from backfill_tasks.worker import transport
from chaos.proxy import Proxy
from sandbox.servers import Servers

NAME = "publishing-test"


def test_broken_connection_during_queue_declaration_loses_no_message(server: Servers) -> None:
    parts = urlsplit(server.redis_url)
    failures: list[Exception] = []
    with Redis.from_url(server.redis_url) as redis, Proxy(parts.port or 6379) as proxy, ThreadPoolExecutor(1) as pool:
        url = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}").geturl()
        with transport.Connection(url, transport=f"{transport.__name__}:Transport") as connection:
            publish = partial(
                Producer(connection.default_channel).publish,
                {"page": 1},
                exchange=NAME,
                routing_key=NAME,
                declare=[Queue(NAME, Exchange(NAME), routing_key=NAME)],
                retry=True,
                retry_policy={"interval_max": 1, "errback": lambda error, _: failures.append(error)},
            )
            with proxy.unreachable():
                published = pool.submit(publish)
                wait_for(lambda: failures or published.done(), what="the first failure")
            published.result(120)

        assert redis.llen(NAME) == 1
        redis.delete(NAME, f"_kombu.binding.{NAME}")


def test_channel_uses_one_client_for_all_its_calls(server: Servers) -> None:
    with transport.Connection(server.redis_url, transport=f"{transport.__name__}:Transport") as connection:
        channel = connection.default_channel

        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
            assert first.ping()


def test_a_refused_acknowledgement_that_travels_with_the_next_message_holds_up_no_later_one(server: Servers) -> None:
    parts = urlsplit(server.redis_url)
    keys = {"unacked_key": f"{NAME}-unacked", "unacked_index_key": f"{NAME}-unacked-index"}
    with Redis.from_url(server.redis_url) as redis, Proxy(parts.port or 6379) as proxy:
        url = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}").geturl()
        kind = f"{transport.__name__}:Transport"
        with transport.Connection(url, transport=kind, transport_options=keys) as connection:
            channel = connection.default_channel
            for page in (1, 2):
                Producer(channel).publish({"page": page}, routing_key=NAME, declare=[Queue(NAME, routing_key=NAME)])
            first = channel.basic_get(NAME)
            with proxy.unreachable():
                first.ack()

            second = channel.basic_get(NAME)
            left = [redis.hlen(keys["unacked_key"])]
            second.ack()
            left.append(redis.hlen(keys["unacked_key"]))

        assert left == [1, 0]
        redis.delete(NAME, f"_kombu.binding.{NAME}")
