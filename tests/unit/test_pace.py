"""Pace: the size of the next page, and how a run's bounds are stored."""

from itertools import pairwise

import pytest
from unbounded import only

from backfill_tasks.engine.admission.page_size import next_size
from backfill_tasks.options import UNBOUNDED, Pace

LIMIT = 500
TARGET_MS = 200


def after(size: int, *, took_ms: float, used: int | None = None, limit: int = LIMIT, target_ms: int = TARGET_MS) -> int:
    """Return the size after a page of this size; the page was full unless `used` says otherwise."""
    return next_size(
        size, limit=limit, used=size if used is None else used, seconds=took_ms / 1000, target_ms=target_ms
    )


class TestAPageThatTookTooLong:
    def test_makes_the_next_one_smaller_in_proportion(self) -> None:
        assert after(400, took_ms=2 * TARGET_MS) == 200

    def test_makes_it_a_quarter_at_the_least_for_one_may_have_been_bad_luck(self) -> None:
        assert after(400, took_ms=1_000 * TARGET_MS) == 100

    def test_of_one_item_leaves_one(self) -> None:
        assert after(1, took_ms=60_000) == 1

    def test_counts_by_what_it_was_held_to_and_not_by_what_it_might_have_held(self) -> None:
        assert after(400, used=20, took_ms=2 * TARGET_MS) == 10

    def test_brings_any_size_down_to_one_within_a_few_pages(self) -> None:
        size = 10_000
        for _ in range(7):
            size = after(size, took_ms=60_000, limit=10_000)

        assert size == 1


class TestAPageThatWasQuick:
    def test_lets_the_next_one_grow_by_a_twentieth_of_the_limit(self) -> None:
        assert after(100, took_ms=10) == 125

    def test_never_lets_it_grow_over_the_limit(self) -> None:
        assert after(490, took_ms=10) == LIMIT
        assert after(LIMIT, took_ms=10) == LIMIT

    def test_lets_it_grow_under_the_smallest_limits_too(self) -> None:
        assert after(1, took_ms=10, limit=5) == 2

    def test_says_nothing_of_a_larger_one_where_there_was_no_room_for_more(self) -> None:
        assert after(100, used=3, took_ms=10) == 100

    def test_recovers_slower_than_a_slow_one_backs_off(self) -> None:
        size, pages = after(LIMIT, took_ms=60_000), 0
        while size < LIMIT:
            size, pages = after(size, took_ms=10), pages + 1

        assert pages == 15


class TestAPageNearItsTarget:
    @pytest.mark.parametrize("took_ms", [0.8 * TARGET_MS, 0.9 * TARGET_MS, TARGET_MS])
    def test_leaves_the_size_as_it_is(self, took_ms: float) -> None:
        assert after(300, took_ms=took_ms) == 300


class TestBounds:
    @pytest.mark.parametrize("took_ms", [0, 10, 190, 200, 201, 1_000, 1e9])
    @pytest.mark.parametrize("limit", [1, 2, 7, 500, 10_000])
    @pytest.mark.parametrize("size", [1, 2, 499, 10_000])
    def test_a_size_lies_between_one_and_the_limit_whatever_happens(
        self, size: int, limit: int, took_ms: float
    ) -> None:
        assert 1 <= after(size, limit=limit, took_ms=took_ms) <= limit

    def test_a_slower_page_is_never_followed_by_a_larger_one(self) -> None:
        sizes = [after(300, took_ms=took_ms) for took_ms in range(0, 2_000, 10)]

        assert all(one >= other for one, other in pairwise(sizes))

    @pytest.mark.parametrize("took_ms", [0, 60_000])
    def test_without_a_target_a_page_holds_the_limit(self, took_ms: float) -> None:
        assert after(3, took_ms=took_ms, target_ms=0) == LIMIT

    def test_a_limit_that_was_lowered_holds_for_the_next_page(self) -> None:
        assert after(LIMIT, took_ms=190, limit=50) == 50


class TestPace:
    def test_the_default_is_the_safe_pace_of_the_command_line(self) -> None:
        assert Pace() == Pace(None, "auto", 5.0, None, 180.0, 200)

    def test_unbounded_bounds_no_jobs(self) -> None:
        assert not UNBOUNDED.bounds_jobs
        assert UNBOUNDED.spacing_ms is None

    @pytest.mark.parametrize("bound", ["jobs_per_minute", "max_pending", "max_jobs"])
    def test_any_bound_on_jobs_bounds_them(self, bound: str) -> None:
        assert only(**{bound: 1}).bounds_jobs

    @pytest.mark.parametrize("bound", ["max_live_wait", "target_page_ms"])
    def test_what_says_when_a_page_starts_or_how_long_it_takes_does_not(self, bound: str) -> None:
        assert not only(**{bound: 1}).bounds_jobs

    @pytest.mark.parametrize(("per_minute", "milliseconds"), [(10, 6_000), (0.5, 120_000), (120_000, 0.5)])
    def test_jobs_a_minute_are_milliseconds_between_two(self, per_minute: float, milliseconds: float) -> None:
        assert only(jobs_per_minute=per_minute).spacing_ms == milliseconds
