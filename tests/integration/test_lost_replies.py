"""Redis executed a call but its reply was lost: nothing happens twice, whether or not the client retries."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from integration.site import Site
from redis import Redis
from redis.connection import Connection, ConnectionPool, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.cursors import LiveCursor, LiveCursors
from backfill_tasks.engine.model import Bounds, Lane, PageMessage, RunId
from backfill_tasks.engine.page.transaction import MOST_ATTEMPTS
from backfill_tasks.engine.rate import FleetRate, Rate
from backfill_tasks.engine.runs import new_id
from sandbox.servers import Servers

LANE = Lane(1, Bounds("a", "z"), None, 0, 1, "running", None, {}, datetime.now(UTC))

LOST = 3


class Lossy(Connection):
    """A connection that sometimes breaks after Redis has executed a script and before the client gets the reply."""

    still_to_lose = 0

    def send_packed_command(self, command: Any, *args: Any, **options: Any) -> None:
        super().send_packed_command(command, *args, **options)
        self._is_script = b"EVALSHA" in b"".join(command)

    def read_response(self, *args: Any, **options: Any) -> Any:
        answer = super().read_response(*args, **options)
        if getattr(self, "_is_script", False) and Lossy.still_to_lose:
            Lossy.still_to_lose -= 1
            self.disconnect()
            raise RedisConnectionError("the reply was lost")
        return answer


@contextmanager
def lossy(server: Servers, *, patience: int) -> Iterator[Redis]:
    """Yield a client like the workers', on connections that lose replies once `lose` has been called."""
    with redis_client.connect(server.redis_url, patience=patience) as client:
        settings = {**client.connection_pool.connection_kwargs, **parse_url(server.redis_url)}
        client.connection_pool = ConnectionPool(connection_class=Lossy, **settings)
        yield client
        Lossy.still_to_lose = 0


@pytest.fixture
def redis(server: Servers) -> Iterator[Redis]:
    """A client that retries."""
    with lossy(server, patience=10) as client:
        yield client


@pytest.fixture
def prompt(server: Servers) -> Iterator[Redis]:
    """A client that doesn't retry, as used under a lane's row lock."""
    with lossy(server, patience=0) as client:
        yield client


@pytest.fixture
def cursors(redis: Redis, prompt: Redis) -> LiveCursors:
    """The cursors, with their scripts loaded, so that the lost reply is a script's and not NOSCRIPT."""
    known = LiveCursors(lambda: redis, lambda: prompt)
    run = new_id()
    known.begin(first(run))
    known.reset_attempts(first(run))
    known.place(run, LANE)
    known.advance(first(run), "c", sent=2)
    known.claim(first(run))
    known.forget(run, 1)
    return known


@pytest.fixture
def run() -> RunId:
    return new_id()


def first(run: RunId) -> PageMessage:
    return PageMessage(run, 1, 1, 1)


def lose(replies: int = LOST) -> None:
    Lossy.still_to_lose = replies


def assert_lost() -> None:
    """Assert that replies were lost; otherwise the test would prove nothing."""
    assert Lossy.still_to_lose == 0


def test_start_whose_reply_was_lost_is_undone_by_a_reset(cursors: LiveCursors, run: RunId) -> None:
    lose(1)
    with pytest.raises(RedisConnectionError):
        cursors.begin(first(run))
    assert_lost()
    assert cursors.begin(first(run)) == 2

    cursors.reset_attempts(first(run))

    assert cursors.begin(first(run)) == 1


def test_page_whose_starts_lose_their_replies_is_no_poison_message(site: Site, cursors: LiveCursors) -> None:
    site.host.add_leads("a")
    site.start()
    message = site.waiting.pop(0)
    chain = site.parts.chain
    unlucky = replace(chain, live=cursors, pages=replace(chain.pages, live=cursors))

    for _ in range(MOST_ATTEMPTS + 1):
        lose(1)
        assert unlucky.step(message).outcome == "put off"
        assert_lost()

    assert unlucky.step(message).outcome == "committed"


def test_a_page_that_moves_the_cursor_hears_that_it_did(cursors: LiveCursors, run: RunId) -> None:
    cursors.place(run, LANE)

    lose()
    assert cursors.advance(first(run), "c", sent=2)
    assert_lost()

    assert cursors.read(run, 1) == LiveCursor(generation=1, page=1, cursor="c", sent=2)
    assert not cursors.advance(first(run), "c", sent=2)


def test_a_claim_is_not_taken_for_anothers(cursors: LiveCursors, run: RunId) -> None:
    cursors.place(run, LANE)
    second = PageMessage(run, 1, 2, 1)

    lose()
    assert cursors.claim(second)
    assert_lost()

    assert not cursors.claim(second)


def test_a_lane_is_placed_and_a_page_forgiven(cursors: LiveCursors, run: RunId) -> None:
    cursors.begin(first(run))

    lose()
    cursors.place(run, LANE)
    assert_lost()
    lose()
    cursors.reset_attempts(first(run))
    assert_lost()

    assert cursors.read(run, 1) == LiveCursor(generation=1, page=0, cursor=None, sent=1)
    assert cursors.begin(first(run)) == 1


def test_who_sets_a_rate_hears_which_one_held_before(redis: Redis, run: RunId) -> None:
    fleet = FleetRate(redis, f"test-{run}")
    fleet.set(Rate("7/s"))

    lose()
    assert fleet.set(Rate("9/s")) == Rate("7/s")
    assert_lost()

    assert fleet.set(Rate("9/s")) == Rate("9/s")
    redis.delete(f"backfill:rate:test-{run}")


def test_the_first_rate_has_none_before_it(redis: Redis, run: RunId) -> None:
    fleet = FleetRate(redis, f"test-{run}")
    redis.script_load(redis_client.lua("set_rate"))

    lose()
    assert fleet.set(Rate("9/s")) is None
    assert_lost()

    redis.delete(f"backfill:rate:test-{run}")
