"""A rate: its notation, and the lower bound below which Redis would redeliver pages."""

import pytest

from backfill_tasks.engine.rate import Rate, refuse_aging
from backfill_tasks.errors import UsageError

HOUR = 3_600


class TestNotation:
    @pytest.mark.parametrize(
        ("text", "interval"),
        [("20/s", 0.05), ("20", 0.05), ("600/m", 0.1), ("36000/h", 0.1), ("0.5/s", 2.0), ("1/h", HOUR), ("none", 0.0)],
    )
    def test_notation_is_celerys(self, text: str, interval: float) -> None:
        assert Rate.parse(text).interval == interval

    def test_none_means_no_limit(self) -> None:
        assert Rate.parse(None) == Rate("none")

    @pytest.mark.parametrize(
        "text", ["", "0", "0/s", "0.0/m", "-1", "-1/s", "nan", "inf", "fast", "20/d", "1e3/s", "None", "9" * 400]
    )
    def test_malformed_rate_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not a rate: write 20/s"):
            Rate.parse(text)


def refuse(rate: str, *, pages: int, redelivery: float = HOUR) -> None:
    refuse_aging(Rate(rate), pages=pages, page_seconds=900, redelivery_seconds=redelivery)


class TestRedelivery:
    def test_rate_that_delivers_the_last_page_just_in_time_is_accepted(self) -> None:
        refuse("20/m", pages=900)

    def test_one_more_page_is_refused_with_the_arithmetic(self) -> None:
        with pytest.raises(UsageError) as refused:
            refuse("20/m", pages=901)

        assert str(refused.value) == (
            "20/m is too low: the last of 901 pages in flight may wait 2,703 s and then take 900 s, but Redis"
            " redelivers it after 3,600 s. Set 1201.34/h or more, or raise BACKFILL_VISIBILITY_TIMEOUT"
        )

    @pytest.mark.parametrize("pages", [1, 2, 7, 64, 901])
    def test_suggested_rate_is_accepted(self, pages: int) -> None:
        with pytest.raises(UsageError) as refused:
            refuse("0.01/h", pages=pages)

        advised = str(refused.value).split(". Set ")[1].split(" or more")[0]
        refuse(advised, pages=pages)

    def test_no_limit_is_never_too_low(self) -> None:
        refuse("none", pages=1_000_000)

    def test_no_rate_is_suggested_if_none_is_high_enough(self) -> None:
        with pytest.raises(UsageError, match=r"redelivers it after 600 s\. Raise BACKFILL_VISIBILITY_TIMEOUT$"):
            refuse("1000/s", pages=1, redelivery=600)
