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

#: So slow that no slot comes due during a test, unless the test moves the clock.
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
    """Return a fleet limited to one page per hour, with the next slot an hour away."""
    fleet.set(SLOW)
    return fleet


def empty(redis: Redis, queue: str) -> None:
    redis.delete(f"backfill:rate:{queue}", f"backfill:rate:{queue}:waiting")


def pass_time(redis: Redis, queue: str, seconds: float) -> None:
    """Let time pass: shift every time stored in Redis into the past."""
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
    def test_slot_is_not_granted_before_it_is_due(self, slow: FleetRate) -> None:
        answer = slow.take("a", NONE, waited=0)

        assert not answer.granted
        assert HOUR - 60 < answer.wait <= HOUR

    def test_of_concurrent_workers_one_gets_the_due_slot(
        self, slow: FleetRate, redis: Redis, queue: str, aside: ThreadPoolExecutor
    ) -> None:
        pass_time(redis, queue, HOUR)

        taken = list(aside.map(lambda number: take(slow, f"worker-{number}"), range(32)))

        assert sum(taken) == 1

    def test_unused_slots_expire(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        pass_time(redis, queue, 100 * HOUR)

        assert [take(slow) for _ in range(5)] == [True, False, False, False, False]

    def test_slot_taken_late_does_not_delay_the_next_one(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        pass_time(redis, queue, HOUR + 0.04)
        take(slow)

        pass_time(redis, queue, HOUR - 0.04)

        assert take(slow)

    def test_rate_change_grants_no_slot(self, slow: FleetRate) -> None:
        for rate in ("2/h", "3/h", "1/h", "1/m", "1/h"):
            slow.set(Rate(rate))

            assert not take(slow)

    def test_higher_rate_does_not_wait_for_the_lower_rates_slot(
        self, slow: FleetRate, redis: Redis, queue: str
    ) -> None:
        pass_time(redis, queue, 60)

        slow.set(Rate("1/m"))

        assert take(slow)

    def test_no_limit_always_grants_a_slot(self, fleet: FleetRate) -> None:
        fleet.set(Rate("none"))

        assert all(take(fleet) for _ in range(100))

    def test_clock_set_back_delays_by_one_interval_at_most(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        pass_time(redis, queue, -100 * HOUR)

        assert slow.take("a", NONE, waited=0).wait <= HOUR


class TestOrder:
    """A slot goes to the task that has waited longest, whichever worker asks first."""

    def test_longest_waiting_worker_goes_first(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        def near_asks_when_it_is_due() -> list[bool] | None:
            """Return the worker's answer, or None if this machine stalled and the slot became free for all workers."""
            take(slow, "far", waited=100)
            make_due(redis, queue)
            began = monotonic()
            taken = take(slow, "near", waited=1)
            return [taken] if monotonic() - began < 0.05 else None

        assert wait_for(near_asks_when_it_is_due, what="the machine to be quick") == [False]
        assert take(slow, "far", waited=100)

    def test_worker_that_misses_its_slot_loses_it(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        take(slow, "dead", waited=100)
        make_due(redis, queue, since=0.2)

        assert take(slow, "near", waited=1)

    def test_dead_worker_delays_no_other(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        take(slow, "dead", waited=100)
        pass_time(redis, queue, 10)
        make_due(redis, queue)

        assert take(slow, "near", waited=1)

    def test_idle_worker_delays_no_other(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        take(slow, "idle", waited=100)
        slow.learn("idle", NONE)
        make_due(redis, queue)

        assert take(slow, "near", waited=1)

    def test_waits_within_a_second_of_each_other_are_equal(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        take(slow, "other", waited=1.5)
        make_due(redis, queue)

        assert take(slow, "near", waited=1)

    def test_each_worker_is_told_when_its_own_slot_is_due(self, slow: FleetRate) -> None:
        waits = [slow.take(worker, NONE, waited=waited).wait for worker, waited in (("a", 3), ("b", 2), ("c", 1))]

        assert [round(wait / HOUR) for wait in waits] == [1, 2, 3]


class TestCurrentRate:
    def test_empty_redis_takes_the_first_workers_rate(self, fleet: FleetRate) -> None:
        assert fleet.learn("a", Known(Rate("7/s"))).rate == Rate("7/s")
        assert fleet.learn("b", Known(Rate("8/s"))).rate == Rate("7/s")
        assert fleet.read() == Rate("7/s")

    def test_new_rate_applies_to_all_workers(self, fleet: FleetRate) -> None:
        known = fleet.learn("a", Known(Rate("7/s")))

        fleet.set(Rate("5/s"))

        assert fleet.learn("a", known).rate == Rate("5/s")
        assert fleet.learn("new", Known(Rate("7/s"))).rate == Rate("5/s")

    def test_set_returns_the_previous_rate(self, fleet: FleetRate) -> None:
        assert fleet.set(Rate("5/s")) is None
        assert fleet.set(Rate("none")) == Rate("5/s")
        assert fleet.set(Rate("5/s")) == Rate("none")

    def test_of_concurrent_equal_changes_one_takes_effect(self, fleet: FleetRate, aside: ThreadPoolExecutor) -> None:
        fleet.set(Rate("5/s"))

        before = list(aside.map(fleet.set, [Rate("9/s")] * 8))

        assert sorted(map(str, before)) == ["5/s", *["9/s"] * 7]

    def test_emptied_redis_relearns_the_rate_from_a_worker(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        known = slow.learn("a", NONE)
        empty(redis, queue)

        assert not take(slow, known=known)
        assert slow.read() == SLOW

    def test_new_worker_grants_nothing_before_the_others_report(
        self, slow: FleetRate, redis: Redis, queue: str
    ) -> None:
        known = slow.learn("old", NONE)
        empty(redis, queue)

        assert not take(slow, "new", known=NONE)
        assert slow.learn("old", known).rate == SLOW
        assert slow.take("new", NONE, waited=0).known == known

    def test_latest_known_rate_wins(self, fleet: FleetRate, redis: Redis, queue: str) -> None:
        fleet.set(Rate("5/s"))
        earlier = fleet.learn("a", NONE)
        fleet.set(Rate("9/s"))
        later = fleet.learn("b", NONE)
        empty(redis, queue)

        assert fleet.learn("a", earlier).rate == Rate("5/s")
        assert fleet.learn("b", later).rate == Rate("9/s")
        assert fleet.learn("a", earlier).rate == Rate("9/s")

    def test_queues_have_separate_rates(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        other = FleetRate(redis, f"{queue}-other")
        other.set(Rate("none"))

        assert (slow.read(), other.read()) == (SLOW, Rate("none"))
        assert take(other)
        empty(redis, f"{queue}-other")

    def test_rate_never_expires(self, fleet: FleetRate, redis: Redis, queue: str) -> None:
        fleet.set(SLOW)

        assert redis.ttl(f"backfill:rate:{queue}") == -1


class TestCorruptKeys:
    @pytest.mark.parametrize("field", ["interval", "last", "at"])
    def test_non_number_is_an_error_and_grants_no_slot(
        self, slow: FleetRate, redis: Redis, queue: str, field: str
    ) -> None:
        redis.hset(f"backfill:rate:{queue}", field, "soon")

        with pytest.raises(ResponseError):
            take(slow)

    def test_wrong_key_type_is_an_error_and_grants_no_slot(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        redis.set(f"backfill:rate:{queue}", "20/s")

        with pytest.raises(ResponseError):
            take(slow)

    def test_reading_a_corrupt_rate_says_how_to_fix_it(self, fleet: FleetRate, redis: Redis, queue: str) -> None:
        redis.set(f"backfill:rate:{queue}", "20/s")

        with pytest.raises(UsageError, match=r"Set it again: backfill rate none$"):
            fleet.read()

    def test_setting_a_rate_replaces_a_corrupt_one(self, fleet: FleetRate, redis: Redis, queue: str) -> None:
        redis.set(f"backfill:rate:{queue}", "20/s")

        fleet.set(SLOW)

        assert fleet.read() == SLOW
        assert not take(fleet)

    def test_corrupt_waiting_list_is_replaced(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        redis.set(f"backfill:rate:{queue}:waiting", "x")

        assert not take(slow)
        assert redis.type(f"backfill:rate:{queue}:waiting") == "hash"

    def test_corrupt_entries_of_the_waiting_list_are_dropped(self, slow: FleetRate, redis: Redis, queue: str) -> None:
        redis.hset(f"backfill:rate:{queue}:waiting", mapping={"b": "x", "c": ""})
        make_due(redis, queue)

        assert take(slow)
        assert redis.hgetall(f"backfill:rate:{queue}:waiting") == {}
