"""The forecast in words."""

import pytest

from backfill_tasks.cli.render.forecast import forecast_line, interval, what_if_lines
from backfill_tasks.forecast.answer import Forecast, WhatIf

DAY = 86_400.0


@pytest.mark.parametrize(
    ("earliest", "latest", "shown"),
    [
        (5.2 * DAY, 6.9 * DAY, "5 to 7 days"),
        (2.1 * DAY, 2.9 * DAY, "50 to 70 hours"),
        (3 * DAY, 3 * DAY, "about 3 days"),
        (200, 400, "3 to 7 minutes"),
        (0.2, 0.4, "0 to 1 seconds"),
    ],
)
def test_an_interval_has_one_unit_and_is_never_narrowed_by_rounding(earliest: float, latest: float, shown: str) -> None:
    assert interval(Forecast.told(earliest, latest, "drain", "the host takes 12 a minute")) == shown


def test_a_forecast_without_an_interval_says_why() -> None:
    assert forecast_line(Forecast.never("paused", "the run is paused")) == "no end by itself: the run is paused"
    assert forecast_line(Forecast.unknown("unmeasured", "no job has ended yet")) == (
        "can't be told yet: no job has ended yet"
    )


def test_a_what_if_is_one_line() -> None:
    found = Forecast.told(5 * DAY, 7 * DAY, "drain", "the host takes 18 a minute")
    asked = WhatIf({"max_pending": 18}, "at --max-pending 18", found)
    assert what_if_lines([asked], indent=2) == ["  at --max-pending 18: 5 to 7 days"]
