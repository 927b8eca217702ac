"""The fleet's rate in Redis: who gets a slot, and which rate applies. The test plays all workers and the clock."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from harness import wait_for
from redis import Redis
from redis.exceptions import ResponseError

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.rate import FleetRate, Known, Rate
from backfill_tasks.errors import UsageError
from sandbox.servers import Servers

#: So slow that no slot comes due during a test unless it moves the clock.
SLOW = Rate("1/h")
HOUR = 3_600
NONE = Known(Rate("none"))


@pytest.fixture
def redis(server: Servers) -> Iterator[Redis]:
    with redis_client.connect(server.redis_url) as client:
        yield client


@pytest.fixture
def queue() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def fleet(redis: Redis, queue: str) -> Iterator[FleetRate]:
    yield FleetRate(redis, queue)
    empty(redis, queue)


@pytest.fixture
def slow(fleet: FleetRate) -> FleetRate:
    """A fleet at one page per hour, whose next slot is an hour away."""
    fleet.set(SLOW)
    return fleet


def empty(redis: Redis, queue: str) -> None:
    redis.delete(f"backfill:rate:{queue}", f"backfill:rate:{queue}:waiting")


def pass_time(redis: Redis, queue: str, seconds: float) -> None:
    """Shift every time stored in Redis into the past."""
    microseconds = round(seconds * 1_000_000)
    redis.hincrby(f"backfill:rate:{queue}", "last", -microseconds)
    waiting = f"backfill:rate:{queue}:waiting"
    for worker, moments in redis.hgetall(waiting).items():  # type: ignore[union-attr]
        redis.hset(waiting, worker, " ".join(str(int(moment) - microseconds) for moment in moments.split()))


def make_due(redis: Redis, queue: str, *, since: float = 0.0) -> None:
    """Make the next slot due, as of `since` seconds ago."""
    seconds, microseconds = redis.time()  # type: ignore[misc]
    last = seconds * 1_000_000 + microseconds - round((HOUR + since) * 1_000_000)
    redis.hset(f"backfill:rate:{queue}", "last", str(last))


def take(fleet: FleetRate, worker: str = "a", *, waited: float = 0.0, known: Known = NONE) -> bool:
    return fleet.take(worker, known, waited=waited).granted


class TestSlots:
    def test_a_slot_is_not_given_before_it_is_due(self, slow: FleetRate) -> None:
        answer = slow.take("a", NONE, waited=0)

        assert not answer.granted
        assert HOUR - 60 < answer.wait <= HOUR

    def test_of_many_that_ask_for_one_that_is_due_one_gets_it(
        self, slow: FleetRate, redis: Redis, queue: str, aside: ThreadPoolExecutor
    ) -> None:
        pass_time(redis, queue, HOUR)

        taken = list(aside.map(lambda number: take(slow, f"worker-{number}"), range(32)))

        assert sum(taken) == 1

    def test_slots_that_nobody_took_are_gone(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        pass_time(redis, queue, 100 * HOUR)

        assert [take(slow) for _ in range(5)] == [True, False, False, False, False]

    def test_a_slot_that_is_taken_late_does_not_put_the_next_one_off(
        self, slow: FleetRate, redis: Redis, queue: str
    ) -> None:
        pass_time(redis, queue, HOUR + 0.04)
        take(slow)

        pass_time(redis, queue, HOUR - 0.04)

        assert take(slow)

    def test_a_change_gives_none_away(self, slow: FleetRate) -> None:
        for rate in ("2/h", "3/h", "1/h", "1/m", "1/h"):
            slow.set(Rate(rate))

            assert not take(slow)

    def test_a_higher_rate_does_not_wait_for_the_slot_of_the_lower(
        self, slow: FleetRate, redis: Redis, queue: str
    ) -> None:
        pass_time(redis, queue, 60)

        slow.set(Rate("1/m"))

        assert take(slow)

    def test_without_a_limit_everybody_gets_one(self, fleet: FleetRate) -> None:
        fleet.set(Rate("none"))

        assert all(take(fleet) for _ in range(100))

    def test_a_clock_that_was_put_back_costs_one_interval_at_most(
        self, slow: FleetRate, redis: Redis, queue: str
    ) -> None:
        pass_time(redis, queue, -100 * HOUR)

        assert slow.take("a", NONE, waited=0).wait <= HOUR


class TestOrder:
    """A slot goes to the task that has waited longest, whichever worker asks first."""

    def test_who_has_waited_longer_goes_first(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        def near_asks_when_it_is_due() -> list[bool] | None:
            """Return what it is told; None if this machine stalled meanwhile and the slot was free for all."""
            take(slow, "far", waited=100)
            make_due(redis, queue)
            began = monotonic()
            taken = take(slow, "near", waited=1)
            return [taken] if monotonic() - began < 0.05 else None

        assert wait_for(near_asks_when_it_is_due, what="the machine to be quick") == [False]
        assert take(slow, "far", waited=100)

    def test_whoever_does_not_come_for_it_loses_it(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        take(slow, "dead", waited=100)
        make_due(redis, queue, since=0.2)

        assert take(slow, "near", waited=1)

    def test_a_worker_that_no_longer_asks_holds_nobody_up(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        take(slow, "dead", waited=100)
        pass_time(redis, queue, 10)
        make_due(redis, queue)

        assert take(slow, "near", waited=1)

    def test_a_worker_in_which_nothing_waits_any_more_holds_nobody_up(
        self, slow: FleetRate, redis: Redis, queue: str
    ) -> None:
        take(slow, "idle", waited=100)
        slow.learn("idle", NONE)
        make_due(redis, queue)

        assert take(slow, "near", waited=1)

    def test_within_a_second_it_goes_to_who_asks_first(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        take(slow, "other", waited=1.5)
        make_due(redis, queue)

        assert take(slow, "near", waited=1)

    def test_each_is_told_to_come_for_its_own_slot(self, slow: FleetRate) -> None:
        waits = [slow.take(worker, NONE, waited=waited).wait for worker, waited in (("a", 3), ("b", 2), ("c", 1))]

        assert [round(wait / HOUR) for wait in waits] == [1, 2, 3]


class TestWhichRateHolds:
    def test_a_redis_that_knows_none_takes_that_of_the_first_worker(self, fleet: FleetRate) -> None:
        assert fleet.learn("a", Known(Rate("7/s"))).rate == Rate("7/s")
        assert fleet.learn("b", Known(Rate("8/s"))).rate == Rate("7/s")
        assert fleet.read() == Rate("7/s")

    def test_one_that_is_set_holds_for_all(self, fleet: FleetRate) -> None:
        known = fleet.learn("a", Known(Rate("7/s")))

        fleet.set(Rate("5/s"))

        assert fleet.learn("a", known).rate == Rate("5/s")
        assert fleet.learn("new", Known(Rate("7/s"))).rate == Rate("5/s")

    def test_setting_one_answers_that_before(self, fleet: FleetRate) -> None:
        assert fleet.set(Rate("5/s")) is None
        assert fleet.set(Rate("none")) == Rate("5/s")
        assert fleet.set(Rate("5/s")) == Rate("none")

    def test_of_many_that_set_the_same_at_once_one_changes_it(
        self, fleet: FleetRate, aside: ThreadPoolExecutor
    ) -> None:
        fleet.set(Rate("5/s"))

        before = list(aside.map(fleet.set, [Rate("9/s")] * 8))

        assert sorted(map(str, before)) == ["5/s", *["9/s"] * 7]

    def test_a_redis_that_was_emptied_learns_it_from_a_worker_that_knows_it(
        self, slow: FleetRate, redis: Redis, queue: str
    ) -> None:
        known = slow.learn("a", NONE)
        empty(redis, queue)

        assert not take(slow, known=known)
        assert slow.read() == SLOW

    def test_a_new_worker_that_comes_first_lets_nothing_go_before_the_others_have_spoken(
        self, slow: FleetRate, redis: Redis, queue: str
    ) -> None:
        known = slow.learn("old", NONE)
        empty(redis, queue)

        assert not take(slow, "new", known=NONE)
        assert slow.learn("old", known).rate == SLOW
        assert slow.take("new", NONE, waited=0).known == known

    def test_of_two_that_workers_know_the_later_holds(self, fleet: FleetRate, redis: Redis, queue: str) -> None:
        fleet.set(Rate("5/s"))
        earlier = fleet.learn("a", NONE)
        fleet.set(Rate("9/s"))
        later = fleet.learn("b", NONE)
        empty(redis, queue)

        assert fleet.learn("a", earlier).rate == Rate("5/s")
        assert fleet.learn("b", later).rate == Rate("9/s")
        assert fleet.learn("a", earlier).rate == Rate("9/s")

    def test_each_queue_has_its_own(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        other = FleetRate(redis, f"{queue}-other")
        other.set(Rate("none"))

        assert (slow.read(), other.read()) == (SLOW, Rate("none"))
        assert take(other)
        empty(redis, f"{queue}-other")

    def test_it_is_kept_for_ever(self, fleet: FleetRate, redis: Redis, queue: str) -> None:
        fleet.set(SLOW)

        assert redis.ttl(f"backfill:rate:{queue}") == -1


class TestNonsense:
    @pytest.mark.parametrize("field", ["interval", "last", "at"])
    def test_what_is_no_number_is_an_error_and_no_slot(
        self, slow: FleetRate, redis: Redis, queue: str, field: str
    ) -> None:
        redis.hset(f"backfill:rate:{queue}", field, "soon")

        with pytest.raises(ResponseError):
            take(slow)

    def test_a_key_of_another_kind_is_an_error_and_no_slot(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        redis.set(f"backfill:rate:{queue}", "20/s")

        with pytest.raises(ResponseError):
            take(slow)

    def test_reading_it_says_how_to_mend_it(self, fleet: FleetRate, redis: Redis, queue: str) -> None:
        redis.set(f"backfill:rate:{queue}", "20/s")

        with pytest.raises(UsageError, match=r"set it again: backfill rate none$"):
            fleet.read()

    def test_setting_a_rate_mends_it(self, fleet: FleetRate, redis: Redis, queue: str) -> None:
        redis.set(f"backfill:rate:{queue}", "20/s")

        fleet.set(SLOW)

        assert fleet.read() == SLOW
        assert not take(fleet)

    def test_a_list_of_who_waits_that_is_none_is_made_anew(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        redis.set(f"backfill:rate:{queue}:waiting", "x")

        assert not take(slow)
        assert redis.type(f"backfill:rate:{queue}:waiting") == "hash"

    def test_junk_among_those_who_wait_is_dropped(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        redis.hset(f"backfill:rate:{queue}:waiting", mapping={"b": "x", "c": ""})
        make_due(redis, queue)

        assert take(slow)
        assert redis.hgetall(f"backfill:rate:{queue}:waiting") == {}
