"""Pace: the size of the next page, and the storage of a run's bounds."""

from itertools import pairwise

import pytest
from unbounded import only

from backfill_tasks.engine.admission.page_size import next_size
from backfill_tasks.options import UNBOUNDED, Pace

LIMIT = 500
TARGET_MS = 200


def after(size: int, *, took_ms: float, used: int | None = None, limit: int = LIMIT, target_ms: int = TARGET_MS) -> int:
    """Return the size that follows a page of this size; the page was full unless `used` says otherwise."""
    return next_size(
        size, limit=limit, used=size if used is None else used, seconds=took_ms / 1000, target_ms=target_ms
    )


class TestSlowPage:
    def test_shrinks_the_next_page_in_proportion(self) -> None:
        assert after(400, took_ms=2 * TARGET_MS) == 200

    def test_shrinks_the_next_page_to_a_quarter_at_most(self) -> None:
        assert after(400, took_ms=1_000 * TARGET_MS) == 100

    def test_of_one_item_keeps_one_item(self) -> None:
        assert after(1, took_ms=60_000) == 1

    def test_shrinks_from_the_items_it_read_not_its_allowed_size(self) -> None:
        assert after(400, used=20, took_ms=2 * TARGET_MS) == 10

    def test_repeated_slow_pages_shrink_any_size_to_one(self) -> None:
        size = 10_000
        for _ in range(7):
            size = after(size, took_ms=60_000, limit=10_000)

        assert size == 1


class TestQuickPage:
    def test_grows_the_next_page_by_a_twentieth_of_the_limit(self) -> None:
        assert after(100, took_ms=10) == 125

    def test_never_grows_past_the_limit(self) -> None:
        assert after(490, took_ms=10) == LIMIT
        assert after(LIMIT, took_ms=10) == LIMIT

    def test_grows_under_a_tiny_limit(self) -> None:
        assert after(1, took_ms=10, limit=5) == 2

    def test_does_not_grow_if_it_was_not_full(self) -> None:
        assert after(100, used=3, took_ms=10) == 100

    def test_growth_is_slower_than_backoff(self) -> None:
        size, pages = after(LIMIT, took_ms=60_000), 0
        while size < LIMIT:
            size, pages = after(size, took_ms=10), pages + 1

        assert pages == 15


class TestPageNearItsTarget:
    @pytest.mark.parametrize("took_ms", [0.8 * TARGET_MS, 0.9 * TARGET_MS, TARGET_MS])
    def test_keeps_the_size(self, took_ms: float) -> None:
        assert after(300, took_ms=took_ms) == 300


class TestBounds:
    @pytest.mark.parametrize("took_ms", [0, 10, 190, 200, 201, 1_000, 1e9])
    @pytest.mark.parametrize("limit", [1, 2, 7, 500, 10_000])
    @pytest.mark.parametrize("size", [1, 2, 499, 10_000])
    def test_size_stays_between_one_and_the_limit(self, size: int, limit: int, took_ms: float) -> None:
        assert 1 <= after(size, limit=limit, took_ms=took_ms) <= limit

    def test_slower_page_never_leads_to_a_larger_next_page(self) -> None:
        sizes = [after(300, took_ms=took_ms) for took_ms in range(0, 2_000, 10)]

        assert all(one >= other for one, other in pairwise(sizes))

    @pytest.mark.parametrize("took_ms", [0, 60_000])
    def test_without_a_target_every_page_has_the_limit(self, took_ms: float) -> None:
        assert after(3, took_ms=took_ms, target_ms=0) == LIMIT

    def test_lowered_limit_applies_to_the_next_page(self) -> None:
        assert after(LIMIT, took_ms=190, limit=50) == 50


class TestPace:
    def test_default_is_the_command_lines_safe_pace(self) -> None:
        assert Pace() == Pace(None, 12, None, 180.0, 200)

    def test_unbounded_pace_limits_no_jobs(self) -> None:
        assert not UNBOUNDED.bounds_jobs
        assert UNBOUNDED.spacing_ms is None

    @pytest.mark.parametrize("bound", ["jobs_per_minute", "max_pending", "max_jobs"])
    def test_each_job_bound_counts_as_bounding_jobs(self, bound: str) -> None:
        assert only(**{bound: 1}).bounds_jobs

    @pytest.mark.parametrize("bound", ["max_live_wait", "target_page_ms"])
    def test_page_bounds_do_not_bound_jobs(self, bound: str) -> None:
        assert not only(**{bound: 1}).bounds_jobs

    @pytest.mark.parametrize(("per_minute", "milliseconds"), [(10, 6_000), (0.5, 120_000), (120_000, 0.5)])
    def test_jobs_per_minute_convert_to_milliseconds_between_jobs(self, per_minute: float, milliseconds: float) -> None:
        assert only(jobs_per_minute=per_minute).spacing_ms == milliseconds
