"""The forecast's interval contains the truth as often as it says: a short form of benchmarks/forecast.py."""

from collections.abc import Sequence

import pytest

from backfill_tasks.forecast.answer import CONFIDENCE
from benchmarks import forecast
from benchmarks.forecast import Asked, ask, coverage

#: Runs of each family whose simulation takes milliseconds.
RUNS = 4
FAMILIES = (forecast.steady, forecast.bounded, forecast.spread, forecast.failing, forecast.here, forecast.steps)
MOST_JOBS = 3_000


@pytest.fixture(scope="module")
def asked() -> Sequence[Asked]:
    settings = [make(seed) for make in FAMILIES for seed in range(200, 200 + 5 * RUNS)]
    short = [each for make in FAMILIES for each in [one for one in settings if one.family == make.__name__ and one.jobs <= MOST_JOBS][:RUNS]]
    return [each for setting in short for each in ask(setting)]


def test_four_of_five_intervals_contain_the_truth(asked: Sequence[Asked]) -> None:
    assert len(asked) >= len(FAMILIES) * RUNS * 2
    assert coverage(asked) >= CONFIDENCE


def test_intervals_of_a_steady_drain_are_narrow_enough_to_plan_by(asked: Sequence[Asked]) -> None:
    widths = sorted(each.width for each in asked if each.family == "steady" and each.width is not None)

    assert widths[len(widths) // 2] <= 0.6
