"""The live cursors in Redis: moved by compare-and-set, once, and never back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import cast

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.cursors import LiveCursor, LiveCursors
from backfill_tasks.engine.model import Bounds, Lane, PageMessage, RunId
from backfill_tasks.engine.runs import new_id
from backfill_tasks.errors import UnreachableError
from sandbox.servers import Servers

#: Nothing listens there.
NOWHERE = "redis://127.0.0.1:1/0"

LANE = Lane(1, Bounds("a", "z"), None, 0, 1, "running", None, {}, datetime.now(UTC))


@pytest.fixture
def redis(server: Servers) -> Iterator[Redis]:
    with redis_client.connect(server.redis_url) as client:
        yield client


@pytest.fixture
def cursors(redis: Redis) -> LiveCursors:
    return LiveCursors(lambda: redis, lambda: redis)


@pytest.fixture
def run() -> RunId:
    return new_id()


def first(run: RunId) -> PageMessage:
    return PageMessage(run, 1, 1, 1)


def lifetimes(redis: Redis, run: RunId) -> list[int]:
    """Return the remaining lifetimes of a run's keys, in seconds; -1: no expiry."""
    keys = cast("list[str]", redis.keys(f"*{run}*"))
    return [redis.ttl(key) for key in keys]


class TestPlacing:
    def test_a_new_lane_stands_before_its_first_page_which_is_sent(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)

        assert cursors.read(run, 1) == LiveCursor(generation=1, page=0, cursor=None, sent=1)

    def test_a_lane_that_is_gone_on_with_stands_where_the_ledger_has_it(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, replace(LANE, cursor="é 1", page=7, generation=3))

        assert cursors.read(run, 1) == LiveCursor(generation=3, page=7, cursor="é 1", sent=8)

    def test_what_redis_has_lost_is_none(self, cursors: LiveCursors, run: RunId) -> None:
        assert cursors.read(run, 1) is None

    def test_a_page_that_began_in_a_lane_that_redis_has_lost_does_not_place_it(
        self, cursors: LiveCursors, run: RunId
    ) -> None:
        cursors.begin(first(run))

        assert cursors.read(run, 1) is None

    def test_a_run_that_has_ended_leaves_nothing(self, cursors: LiveCursors, redis: Redis, run: RunId) -> None:
        cursors.place(run, LANE)
        cursors.place(run, replace(LANE, number=2))

        cursors.forget(run, 2)

        assert lifetimes(redis, run) == []


class TestAdvancing:
    def test_a_page_moves_the_cursor_and_notes_which_was_sent_last(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)

        assert cursors.advance(first(run), "c", sent=2)
        assert cursors.read(run, 1) == LiveCursor(generation=1, page=1, cursor="c", sent=2)

    @pytest.mark.parametrize("page", [1, 2])
    def test_a_page_that_was_passed_does_not_move_it_back(self, cursors: LiveCursors, run: RunId, page: int) -> None:
        cursors.place(run, LANE)
        cursors.advance(replace(first(run), page=2), "f", sent=3)

        assert not cursors.advance(replace(first(run), page=page), "c", sent=page + 1)
        assert cursors.read(run, 1) == LiveCursor(generation=1, page=2, cursor="f", sent=3)

    def test_an_older_generation_does_not_move_it(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, replace(LANE, generation=2))

        assert not cursors.advance(replace(first(run), page=9), "y", sent=10)
        assert cursors.read(run, 1) == LiveCursor(generation=2, page=0, cursor=None, sent=1)

    def test_a_newer_generation_wins_over_any_page(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, replace(LANE, page=9, cursor="y"))

        assert cursors.advance(PageMessage(run, 1, 2, 2), "d", sent=3)
        assert cursors.read(run, 1) == LiveCursor(generation=2, page=2, cursor="d", sent=3)

    def test_a_lane_that_redis_has_lost_is_written_anew(self, cursors: LiveCursors, run: RunId) -> None:
        assert cursors.advance(replace(first(run), page=5), "m", sent=6)
        assert cursors.read(run, 1) == LiveCursor(generation=1, page=5, cursor="m", sent=6)

    def test_generations_and_pages_are_compared_as_numbers(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, replace(LANE, page=9, generation=9))

        assert cursors.advance(PageMessage(run, 1, 10, 9), "m", sent=11)
        assert cursors.advance(PageMessage(run, 1, 1, 10), "b", sent=2)

    def test_of_many_that_move_it_past_one_page_one_does(
        self, cursors: LiveCursors, run: RunId, aside: ThreadPoolExecutor
    ) -> None:
        cursors.place(run, LANE)

        moved = list(aside.map(lambda _: cursors.advance(first(run), "c", sent=2), range(32)))

        assert sum(moved) == 1

    def test_lanes_do_not_touch_each_other(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)
        cursors.place(run, replace(LANE, number=11))

        cursors.advance(first(run), "c", sent=2)

        assert cursors.read(run, 11) == LiveCursor(generation=1, page=0, cursor=None, sent=1)


class TestClaiming:
    def test_a_page_that_was_not_sent_is_claimed_once(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)
        second = replace(first(run), page=2)

        assert cursors.claim(second)
        assert not cursors.claim(second)

    def test_of_many_that_claim_it_one_does(self, cursors: LiveCursors, run: RunId, aside: ThreadPoolExecutor) -> None:
        cursors.place(run, LANE)

        claimed = list(aside.map(lambda _: cursors.claim(replace(first(run), page=2)), range(32)))

        assert sum(claimed) == 1

    def test_a_page_that_was_sent_is_not_claimed(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)
        cursors.advance(first(run), "c", sent=2)

        assert not cursors.claim(replace(first(run), page=2))

    def test_an_older_generation_claims_nothing(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, replace(LANE, generation=2))

        assert not cursors.claim(replace(first(run), page=9))

    def test_it_leaves_the_cursor_where_it_is(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)
        cursors.advance(first(run), "c", sent=1)

        cursors.claim(replace(first(run), page=2))

        assert cursors.read(run, 1) == LiveCursor(generation=1, page=1, cursor="c", sent=2)

    def test_a_page_of_a_lane_that_redis_has_lost_is_claimed_once(self, cursors: LiveCursors, run: RunId) -> None:
        assert cursors.claim(first(run))
        assert not cursors.claim(first(run))


class TestBeginning:
    def test_each_beginning_of_a_page_is_counted(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)

        assert [cursors.begin(first(run)) for _ in range(3)] == [1, 2, 3]

    def test_the_next_page_is_counted_from_one(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)
        cursors.begin(first(run))

        assert cursors.begin(replace(first(run), page=2)) == 1

    def test_an_orderly_end_is_forgiven(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)
        cursors.begin(first(run))

        cursors.reset_attempts(first(run))

        assert cursors.begin(first(run)) == 1

    def test_a_page_that_was_committed_has_ended_none(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)
        cursors.begin(first(run))

        cursors.advance(first(run), "c", sent=2)

        assert cursors.begin(first(run)) == 1

    def test_seeding_the_lane_again_does_not_make_a_deadly_page_a_new_one(
        self, cursors: LiveCursors, run: RunId
    ) -> None:
        cursors.place(run, LANE)
        cursors.begin(first(run))

        cursors.place(run, replace(LANE, generation=2))

        assert cursors.begin(replace(first(run), generation=2)) == 2


@pytest.mark.usefixtures("junk")
class TestJunk:
    """A value under a lane's key that isn't a cursor counts as lost, and is overwritten."""

    JUNK = (
        {"generation": "x", "page": "y", "cursor": "c", "sent": "z", "attempts": "many", "begun": "1"},
        {"generation": "1.5", "page": "-", "cursor": "c", "sent": "1e400"},
        {"cursor": "c"},
    )

    @pytest.fixture(params=["string", "list", "hash 0", "hash 1", "hash 2"])
    def junk(self, request: pytest.FixtureRequest, redis: Redis, run: RunId) -> None:
        key, (kind, _, number) = f"backfill:cursor:{run}:1", request.param.partition(" ")
        if kind == "string":
            redis.set(key, "x")
        elif kind == "list":
            redis.lpush(key, "x")
        else:
            redis.hset(key, mapping=self.JUNK[int(number)])

    def test_it_is_lost(self, cursors: LiveCursors, run: RunId) -> None:
        assert cursors.read(run, 1) is None

    def test_a_lane_is_placed(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.place(run, LANE)

        assert cursors.read(run, 1) == LiveCursor(generation=1, page=0, cursor=None, sent=1)

    def test_a_page_begins(self, cursors: LiveCursors, run: RunId) -> None:
        assert [cursors.begin(first(run)) for _ in range(2)] == [1, 2]

    def test_a_page_moves_the_cursor(self, cursors: LiveCursors, run: RunId) -> None:
        assert cursors.advance(replace(first(run), generation=2), "c", sent=2)
        assert cursors.read(run, 1) == LiveCursor(generation=2, page=1, cursor="c", sent=2)

    def test_a_page_is_claimed_once(self, cursors: LiveCursors, run: RunId) -> None:
        second = PageMessage(run, 1, 2, 2)

        assert cursors.claim(second)
        assert not cursors.claim(second)

    def test_a_page_is_forgiven(self, cursors: LiveCursors, run: RunId) -> None:
        cursors.begin(first(run))
        cursors.reset_attempts(first(run))

        assert cursors.begin(first(run)) == 1


class TestKeeping:
    """Every key expires eventually, even one written after its run has ended."""

    def test_a_placed_cursor_goes(self, cursors: LiveCursors, redis: Redis, run: RunId) -> None:
        cursors.place(run, LANE)

        assert min(lifetimes(redis, run)) > 0

    def test_a_page_that_has_begun_goes(self, cursors: LiveCursors, redis: Redis, run: RunId) -> None:
        cursors.begin(first(run))

        assert min(lifetimes(redis, run)) > 0

    def test_a_cursor_that_was_moved_after_it_was_lost_goes(
        self, cursors: LiveCursors, redis: Redis, run: RunId
    ) -> None:
        cursors.advance(first(run), "c", sent=2)

        assert min(lifetimes(redis, run)) > 0

    def test_a_claim_in_a_lane_that_was_lost_goes(self, cursors: LiveCursors, redis: Redis, run: RunId) -> None:
        cursors.claim(first(run))

        assert min(lifetimes(redis, run)) > 0

    def test_an_orderly_end_in_a_lane_that_was_lost_goes(self, cursors: LiveCursors, redis: Redis, run: RunId) -> None:
        cursors.reset_attempts(first(run))

        assert all(seconds > 0 for seconds in lifetimes(redis, run))


def test_a_redis_that_does_not_answer_is_named_without_its_password() -> None:
    url = "redis://:hunter2@127.0.0.1:1/0"

    with pytest.raises(UnreachableError, match="REDIS_URL") as unreachable, redis_client.reachable(url):
        redis_client.connect(url, patience=0).ping()

    assert "127.0.0.1:1" in str(unreachable.value)
    assert "hunter2" not in str(unreachable.value)


def pings(redis: Redis) -> int:
    """Return how often Redis was asked whether it answers."""
    return int(redis.info("commandstats").get("cmdstat_ping", {}).get("calls", 0))


class TestWaitingForAnAnswer:
    def test_an_answer_within_the_last_second_is_enough(self, cursors: LiveCursors, redis: Redis, run: RunId) -> None:
        cursors.place(run, LANE)
        before = pings(redis)

        started = monotonic()
        cursors.advance(first(run), "b", sent=1)
        cursors.wait_for_answer()

        assert pings(redis) == before or monotonic() - started > 1.0

    def test_a_call_without_an_answer_makes_the_next_page_ask(self, server: Servers, run: RunId) -> None:
        with redis_client.connect(server.redis_url) as redis, redis_client.connect(NOWHERE, patience=0) as prompt:
            cursors = LiveCursors(redis, prompt)
            cursors.wait_for_answer()
            with pytest.raises(RedisConnectionError):
                cursors.begin(first(run))
            asked = pings(redis)

            cursors.wait_for_answer()

            assert pings(redis) == asked + 1
