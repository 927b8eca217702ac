"""The forecast's interval contains the truth as often as it says: a short form of benchmarks/forecast.py."""

from collections.abc import Sequence
from itertools import count, islice

import pytest

from backfill_tasks.forecast.answer import CONFIDENCE
from benchmarks import forecast
from benchmarks.forecast import Asked, ask, coverage

#: Runs of each family, and the most jobs of a run: their simulation takes a second or two in all.
RUNS = 5
FAMILIES = (forecast.steady, forecast.bounded, forecast.spread, forecast.failing, forecast.steps)
MOST_JOBS = 1_500


@pytest.fixture(scope="module")
def asked() -> Sequence[Asked]:
    found: list[Asked] = []
    for make in FAMILIES:
        settings = (setting for setting in map(make, count(200)) if setting.jobs <= MOST_JOBS)
        found += [each for setting in islice(settings, RUNS) for each in ask(setting)]
    return found


def test_four_of_five_intervals_contain_the_truth(asked: Sequence[Asked]) -> None:
    assert len(asked) >= len(FAMILIES) * RUNS * 2
    assert coverage(asked) >= CONFIDENCE


def test_intervals_are_narrow_enough_to_plan_by(asked: Sequence[Asked]) -> None:
    widths = sorted(each.width for each in asked if each.width is not None)

    assert widths[len(widths) // 2] <= 0.6
