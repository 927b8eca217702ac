"""The bound that sizes itself: what it makes of a host's drain, call by call."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from backfill_tasks.engine.admission.bound import MOST, STARVED_SECONDS, Bound, Measurement, observe
from backfill_tasks.engine.admission.rhythm import Rhythm

MINUTE = 60.0


@dataclass
class Host:
    """A host that takes so many jobs a minute, live ones first, and a run that fills what room it has.

    `sizes`, `ours`: the bound and our jobs taken, call by call.
    """

    limit: Callable[[int], int]
    live: Callable[[int], int]
    min_share: float = 0.05
    bound: Bound = field(default_factory=lambda: Bound(Rhythm(MINUTE, 0.0)))
    waiting: int = 0
    ours: int = 0
    sizes: list[int] = field(default_factory=list)
    taken_ours: list[int] = field(default_factory=list)
    most_ours: int = 0
    _last: tuple[int, int, int] = (0, 0, 0)

    def go(self, minutes: int) -> "Host":
        for _ in range(minutes):
            self.minute(len(self.sizes) + 1)
        return self

    def minute(self, number: int) -> None:
        taken, ours, left = self._last
        self.waiting += self.live(number)
        seen = Measurement(number * MINUTE - 5, (number - 1) * MINUTE, self.waiting, self.ours, taken, ours, left)
        self.bound = observe(self.bound, seen, min_share=self.min_share, usual_seconds=MINUTE)
        self.sizes.append(self.bound.offer)
        free, owed = self.bound.room(seen), self.bound.owed
        if owed > max(0, free):
            self.bound = self.bound.pay(owed)
        self.ours += max(0, free, owed)
        self.most_ours = max(self.most_ours, self.ours)
        # Ours that were owed are as old as the live jobs around them: they get their share.
        first = min(self.ours, owed, self.limit(number))
        live = min(self.waiting, self.limit(number) - first)
        rest = min(self.ours - first, self.limit(number) - first - live)
        self.waiting -= live
        self.ours -= first + rest
        self._last = (live + first + rest, first + rest, self.waiting + self.ours)
        self.taken_ours.append(first + rest)


def always(number: int) -> Callable[[int], int]:
    return lambda _minute: number


def step(before: int, after: int, *, at: int) -> Callable[[int], int]:
    return lambda minute: after if minute >= at else before


def measured(**changes: float) -> Measurement:
    """Return the measurement before the call at second 120 of a host that takes 20 jobs, all of them taken."""
    return replace(Measurement(115.0, 60.0, live=0, ours=0, taken=20, taken_ours=12, left=0), **changes)


def sized(capacity: float, **changes: object) -> Bound:
    """Return a bound that has found the capacity."""
    known = Bound(Rhythm(MINUTE, 0.0), capacity=capacity, growing=False, rest=2)
    return replace(known, **changes)  # type: ignore[arg-type]


def seen_by(bound: Bound, each: Measurement, *, min_share: float = 0.05) -> Bound:
    return observe(bound, each, min_share=min_share, usual_seconds=MINUTE)


class TestTheCapacity:
    @pytest.mark.parametrize("drain", [1, 5, 10, 20, 60, 200, 600])
    def test_is_found_within_ten_minutes(self, drain: int) -> None:
        host = Host(always(drain), always(0)).go(30)

        assert sum(host.taken_ours[10:]) >= 0.95 * drain * 20

    @pytest.mark.parametrize("drain", [5, 20, 200])
    def test_is_then_exceeded_by_probes_only(self, drain: int) -> None:
        host = Host(always(drain), always(drain // 2)).go(60)

        assert max(host.sizes[15:]) <= max(drain + 1, 1.1 * drain)

    def test_a_rise_is_followed_within_five_calls(self) -> None:
        for at in range(30, 36):
            host = Host(step(20, 100, at=at), always(12)).go(60)

            assert host.taken_ours[at + 3] >= 0.8 * (100 - 12)

    def test_a_fall_is_followed_after_one_call(self) -> None:
        host = Host(step(100, 20, at=30), always(12)).go(60)

        assert host.sizes[30] == 20

    def test_of_more_than_is_counted_stays_at_what_is_counted(self) -> None:
        host = Host(always(10_000), always(0)).go(30)

        assert max(host.sizes) == MOST

    def test_a_call_that_took_less_than_was_offered_says_nothing(self) -> None:
        bound = sized(20)

        assert seen_by(bound, measured(taken=3)).capacity == 20

    def test_a_call_that_left_jobs_behind_was_full(self) -> None:
        assert seen_by(sized(20), measured(taken=7, left=1)).capacity == 7


class TestOurOwnScorers:
    def test_share_the_queue_while_they_take_due_jobs(self) -> None:
        assert seen_by(sized(20), measured(here=5)).shared
        assert not seen_by(sized(20, shared=True), measured(here=0)).shared

    def test_change_nothing_about_the_hosts_drain(self) -> None:
        alone, beside = (seen_by(sized(20), measured(taken=7, left=1, here=here)) for here in (0, 500))

        assert replace(beside, shared=False) == alone


class TestCallsOfOurs:
    def test_have_no_fixed_moments_and_come_as_often_as_ordered(self) -> None:
        hurried = seen_by(sized(20), measured(every=10.0))

        assert hurried.calls == Rhythm(10.0, None)
        assert hurried.opens(73.0, 5.0) == 73.0
        assert hurried.since(73.0) == 63.0

    def test_leave_the_hosts_own_rhythm_as_it_was_when_they_end(self) -> None:
        hurried = seen_by(sized(20), measured(every=10.0))

        assert seen_by(hurried, measured(at=175.0, since=165.0)).calls == Rhythm(MINUTE, 0.0)


class TestAHostThatStops:
    def test_for_an_hour_gets_no_more_than_one_call_takes(self) -> None:
        def limit(minute: int) -> int:
            return 0 if 30 <= minute < 90 else 20

        host = Host(limit, always(8)).go(29)
        host.most_ours = 0
        host.go(61)

        assert host.most_ours <= 22

    def test_and_returns_is_used_as_before_once_its_backlog_is_done(self) -> None:
        def limit(minute: int) -> int:
            return 0 if 30 <= minute < 90 else 20

        host = Host(limit, always(8)).go(150)

        assert sum(host.taken_ours[140:]) >= 0.9 * 12 * 10


class TestNonsense:
    def test_a_clock_that_was_set_back_starts_over_from_there(self) -> None:
        ahead = sized(20, judged=1e9, starved_since=1e9 - 10)

        back = seen_by(ahead, measured())

        assert (back.judged, back.capacity, back.starved_since) == (60.0, 20, None)
        assert seen_by(back, measured(at=175.0, since=120.0, taken=7, left=1)).capacity == 7

    def test_a_call_is_judged_once(self) -> None:
        once = seen_by(sized(20), measured(taken=7, left=1))

        assert seen_by(once, measured(taken=9, left=1)) == once

    def test_no_jobs_at_all_change_nothing(self) -> None:
        bound = sized(20)

        assert seen_by(bound, measured(taken=0, taken_ours=0)).capacity == bound.capacity

    def test_jobs_that_wait_without_a_call_change_nothing(self) -> None:
        assert seen_by(sized(20), measured(taken=0, left=9)).capacity == 20

    def test_what_the_ledger_stores_is_the_bound(self) -> None:
        bound = sized(20, starved_since=5.0, credit=0.5)

        assert Bound.from_json(json.loads(json.dumps(bound.as_json()))) == bound

    def test_what_another_version_stores_is_read_as_far_as_it_is_known(self) -> None:
        assert Bound.from_json({"rhythm": {"seconds": 60.0, "phase": None}, "colour": "red"}) == Bound(
            Rhythm(60.0, None)
        )


class TestTheGuaranteedShare:
    def busy(self, *, min_share: float = 0.05) -> Host:
        """A host whose live jobs always fill its calls."""
        return Host(always(20), always(20), min_share=min_share)

    def test_goes_through_when_live_jobs_have_left_no_room_for_two_hours(self) -> None:
        host = self.busy().go(600)

        taken: Sequence[int] = host.taken_ours[180:]
        assert sum(taken) == pytest.approx(0.05 * 20 * len(taken), rel=0.05)

    def test_does_not_before(self) -> None:
        host = self.busy().go(int(STARVED_SECONDS / MINUTE))

        assert sum(host.taken_ours[20:]) == 0

    def test_of_zero_never_does(self) -> None:
        host = self.busy(min_share=0).go(600)

        assert sum(host.taken_ours[20:]) == 0

    def test_is_of_what_the_host_takes_so_a_stopped_one_gets_nothing(self) -> None:
        starved = sized(20, had_room=False, starved_since=-1e6)

        assert seen_by(starved, measured(taken=0, left=50, live=50)).owed == 0

    def test_is_not_saved_up(self) -> None:
        starved = sized(20, had_room=False, starved_since=-1e6)
        for number in range(1, 100):
            at = 60.0 * number
            starved = seen_by(starved, measured(at=at + 55, since=at, live=50, left=30))

        assert starved.owed <= 2

    def test_ends_when_there_is_room_again(self) -> None:
        starved = sized(20, had_room=True, starved_since=-1e6, credit=2.0)

        fed = seen_by(starved, measured())

        assert (fed.starved_since, fed.owed) == (None, 0)


class TestTheMoment:
    def test_is_just_before_the_next_call(self) -> None:
        assert sized(20).opens(70.0, 5.0) == 115.0
        assert sized(20).opens(116.0, 5.0) == 116.0

    def test_is_always_where_the_host_has_no_fixed_moments(self) -> None:
        assert replace(sized(20), rhythm=Rhythm(10.0, None)).opens(73.0, 5.0) == 73.0

    def test_is_at_most_half_a_period_before(self) -> None:
        assert replace(sized(20), rhythm=Rhythm(6.0, 0.0)).opens(7.0, 5.0) == 9.0
