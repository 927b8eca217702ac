"""The parts of the queue simulator that need no database."""

import pytest

from benchmarks.simulator import Clock, arrivals, quantile

HOUR = [8.0] * 60


class TestArrivals:
    def test_seed_replays_its_arrivals(self) -> None:
        assert arrivals(HOUR, seed=1) == arrivals(HOUR, seed=1) != arrivals(HOUR, seed=2)

    def test_arrivals_are_ordered_and_within_the_hour(self) -> None:
        times = arrivals(HOUR, seed=1)

        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] < 3600

    def test_arrivals_follow_each_minutes_rate(self) -> None:
        times = arrivals([2.0] * 1000 + [0.0] * 1000 + [20.0] * 1000, seed=1)
        found = [sum(60_000 * third <= each < 60_000 * (third + 1) for each in times) for third in range(3)]

        assert found == [pytest.approx(2_000, rel=0.1), 0, pytest.approx(20_000, rel=0.03)]


class TestQuantile:
    @pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (0.991, 100), (1, 100), (0, 1)])
    def test_quantile_is_the_smallest_value_that_covers_the_share(self, share: float, value: int) -> None:
        assert quantile(range(1, 101), share) == value

    def test_quantile_of_one_value_is_that_value(self) -> None:
        assert quantile([7.0], 0.5) == quantile([7.0], 0.99) == 7.0


class TestClock:
    def test_simulated_minutes_are_whole_seconds_of_the_wall_clock(self) -> None:
        clock = Clock.start(60)

        assert [clock.real(60 * minute) % 1 for minute in range(3)] == [0, 0, 0]

    def test_wait_is_never_negative(self) -> None:
        assert Clock.start(6_000).wait_for(60) >= 0
