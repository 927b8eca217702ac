"""Comparing a remote clock with the local clock accounts for the round trip."""

from collections.abc import Callable, Sequence

import pytest

from backfill_tasks.cli.doctor.clocks import difference


class Afar:
    """A remote clock that is ahead by `ahead` seconds; time passes only on the way there and back."""

    def __init__(self, ahead: float, ways: Sequence[tuple[float, float]]) -> None:
        self._now = 1_000_000.0
        self._ahead = ahead
        self._ways = iter(ways)

    def now(self) -> float:
        return self._now

    def read(self) -> float:
        there, back = next(self._ways)
        self._now += there
        answer = self._now + self._ahead
        self._now += back
        return answer


@pytest.fixture
def compared() -> Callable[..., tuple[float, float]]:
    def compare(ahead: float, ways: Sequence[tuple[float, float]]) -> tuple[float, float]:
        clock = Afar(ahead, ways)
        found = difference(clock.read, clock.now)
        return round(found.seconds, 6), round(found.certain, 6)

    return compare


def test_symmetric_round_trip_cancels_out(compared: Callable[..., tuple[float, float]]) -> None:
    assert compared(7.0, [(0.5, 0.5)] * 5) == (7.0, 6.5)


def test_quickest_round_trip_counts(compared: Callable[..., tuple[float, float]]) -> None:
    assert compared(-7.0, [(3.0, 0.0), (2.0, 2.0), (0.1, 0.1), (0.0, 5.0), (1.0, 0.0)]) == (-7.0, 6.9)


def test_slow_reply_is_not_a_clock_difference(compared: Callable[..., tuple[float, float]]) -> None:
    assert compared(0.0, [(6.0, 0.0)] * 5) == (3.0, 0.0)
