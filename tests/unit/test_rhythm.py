"""The rhythm of a host's drain, from when its jobs were due and when it started them."""

import random
from collections.abc import Iterator

import pytest

from backfill_tasks.engine.admission.rhythm import Rhythm, Wait, rhythm

MINUTE = Rhythm(60.0, 0.0)


def drained(
    seconds: float, *, phase: float = 0.0, per_minute: float = 12, hours: float = 1, late: float = 0.0
) -> list[Wait]:
    """Return the waits of jobs that come due at random, with a call every so many seconds."""
    chance = random.Random(1)  # noqa: S311  (reproducible)
    waits = []
    for _ in range(int(per_minute * 60 * hours)):
        due = chance.uniform(0, 3_600 * hours)
        calls = (due - phase) // seconds + 1
        waits.append((due, calls * seconds + phase + chance.uniform(0, late)))
    return sorted(waits, key=lambda each: each[1])


def found(waits: list[Wait], expected: Rhythm = MINUTE) -> Rhythm:
    return rhythm(waits, expected, usual_seconds=60)


class TestThePeriod:
    @pytest.mark.parametrize("seconds", [120, 60, 30, 20, 15, 10])
    def test_of_a_periodic_drain_is_found(self, seconds: float) -> None:
        assert found(drained(seconds, phase=7)).seconds == pytest.approx(seconds)

    def test_is_found_although_calls_come_late(self) -> None:
        assert found(drained(60, late=3)).seconds == 60

    def test_is_found_although_jobs_wait_for_several_calls(self) -> None:
        waits = drained(60)
        backlog = [(due - 60 * (number % 4), started) for number, (due, started) in enumerate(waits)]

        assert found(backlog).seconds == 60

    def test_is_found_although_a_call_works_on_its_jobs_for_most_of_a_minute(self) -> None:
        waits = [(due, started + number % 20) for number, (due, started) in enumerate(drained(60))]

        assert found(waits).seconds == 60

    def test_a_drain_without_fixed_moments_has_no_phase(self) -> None:
        waits = [(due, due + 1) for due, _ in drained(60)]

        assert found(waits) == Rhythm(10.0, None)


class TestThePhase:
    @pytest.mark.parametrize("phase", [0, 1.5, 31, 58])
    def test_is_when_the_earliest_call_comes(self, phase: float) -> None:
        seen = found(drained(60, phase=phase, late=2))

        assert seen.phase == pytest.approx(phase, abs=0.5)


class TestTooLittle:
    def test_without_waits_the_expected_rhythm_stays(self) -> None:
        assert found([], Rhythm(30.0, 4.0)) == Rhythm(30.0, 4.0)

    def test_with_few_waits_it_stays(self) -> None:
        assert found(drained(30)[:15]) == MINUTE

    def test_with_waits_of_a_few_calls_it_stays(self) -> None:
        waits = [each for each in drained(30, per_minute=600) if each[1] < 120]

        assert found(waits) == MINUTE

    def test_with_long_waits_only_it_stays(self) -> None:
        waits = [(due - 600, started) for due, started in drained(60)]

        assert found(waits, Rhythm(60.0, 11.0)) == Rhythm(60.0, 11.0)

    def test_jobs_that_started_before_they_were_due_say_nothing(self) -> None:
        waits = [(due + 100, started) for due, started in drained(30)]

        assert found(waits) == MINUTE


class TestACall:
    def moments(self) -> Iterator[float]:
        yield from (0.0, 59.9, 60.0, 66.9, 67.0, 1e9)

    def test_the_following_one_is_a_period_after_the_last(self) -> None:
        each = Rhythm(60.0, 7.0)

        assert all(each.last(at) <= at < each.following(at) for at in self.moments())
        assert each.last(66.9) == 7.0
        assert each.following(67.0) == 127.0
