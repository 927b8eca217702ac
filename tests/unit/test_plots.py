"""The plot of a run over time."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from backfill_tasks.cli.render.plots import draw
from backfill_tasks.engine.ledger import Bucket, Hold, Span

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
SECONDS = 1.0
DAYS = 86_400.0


def span(since: float, until: float) -> Span:
    return Span(START + timedelta(seconds=since), START + timedelta(seconds=until))


def buckets(
    seconds: float, number: int, *, items: float = 100, median: float = 0.02, longest: float = 0.1
) -> list[Bucket]:
    width = seconds / number
    return [
        Bucket(span(each * width, (each + 1) * width), 4, int(items * width), median, longest) for each in range(number)
    ]


def held(*stretches: Span) -> Hold:
    return Hold("live queue", 1, 1, Span(stretches[0].since, stretches[-1].until), "", stretches)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def drawn(
    seconds: float, pages: list[Bucket], *, holds: tuple[Hold, ...] = (), pauses: tuple[Span, ...] = ()
) -> list[str]:
    """Return the plot's texts."""
    svg = draw(span(0, seconds), pages, holds=holds, pauses=pauses, items="leads")
    assert svg is not None
    assert svg.startswith("<svg")
    assert "nan" not in svg
    return texts(svg)


def test_two_second_run_has_subsecond_ticks() -> None:
    shown = drawn(2 * SECONDS, buckets(2 * SECONDS, 15))

    assert "09:30:00.5" in shown
    assert "2026-03-01" in shown


def test_five_day_run_has_daily_ticks() -> None:
    pause = span(1 * DAYS, 3 * DAYS)
    pages = [
        Bucket(each.span) if pause.since <= each.span.since < pause.until else each
        for each in buckets(5 * DAYS, 400, items=0.2)
    ]

    shown = drawn(5 * DAYS, pages, pauses=(pause,))

    assert {"03-02", "03-03", "03-06", "2026", "paused"} <= set(shown)


def test_single_page_run_can_be_plotted() -> None:
    assert "09:30:00.01" in drawn(0.05, [Bucket(span(0, 0.05), 1, 500, 0.03, 0.03)])


def test_run_without_pages_or_waits_has_no_plot() -> None:
    assert draw(span(0, 1), [Bucket(span(0, 1))], holds=[], pauses=[span(0, 1)], items="leads") is None


def test_run_postponed_from_the_start_shows_the_reason() -> None:
    assert "live queue" in drawn(30.0, [Bucket(span(0, 30))], holds=(held(span(0, 30)),))


def test_postponements_and_pauses_have_one_row_per_kind() -> None:
    shown = drawn(30.0, buckets(30, 5), holds=(held(span(1, 2), span(5, 6)),), pauses=(span(7, 9),))

    assert [each for each in shown if each in {"live queue", "paused"}] == ["live queue", "paused"]


def test_very_short_postponement_is_visible() -> None:
    svg = draw(span(0, DAYS), buckets(DAYS, 5), holds=[held(span(1, 1.001))], pauses=[], items="leads")

    assert svg is not None
    assert re.search(r"fill: #d55e00; stroke: #d55e00", svg)


@pytest.mark.parametrize(("items", "expected"), [(100, "throughput (leads/s)"), (0.2, "throughput (leads/min)")])
def test_low_throughput_is_shown_per_minute(items: float, expected: str) -> None:
    assert expected in drawn(3_600.0, buckets(3_600, 10, items=items))


def test_wide_range_of_page_durations_gets_a_log_scale() -> None:
    shown = drawn(60.0, buckets(60, 10, median=0.02, longest=15.0))

    assert {"100", "1,000", "10,000"} <= set(shown)


def test_plot_inherits_the_pages_text_color() -> None:
    svg = draw(span(0, 1), buckets(1, 1), holds=[], pauses=[], items="leads")

    assert svg is not None
    assert "fill: currentColor" in svg
    assert "#0a0b0c" not in svg
