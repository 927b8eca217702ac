"""A run's report in a real browser."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser.conftest import Site
from harness import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Picture = Callable[[str], None]


@pytest.fixture(scope="session")
def report(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that was paused, and held because the host's queue was full."""
    backfill = site.backfill
    # The delay keeps the run going until these commands have changed it, even on a busy machine.
    options = ("--rescore-all", "--limit", "8", "--cost-per-job", "0.002", "--page-delay-ms", "500")
    run = backfill.json("run", "--apply", "--detach", *options)["run_id"]
    wait_for(lambda: backfill.json("status")["pages"] > 20, what="some pages")
    backfill("pause", run)
    backfill("resume", run)
    wait_for(lambda: backfill.json("status")["pages"] > 50, what="some more pages")
    backfill("tune", run, "--max-pending", "12")
    wait_for(lambda: backfill.json("status")["lanes"][0]["reason_kind"] == "max_pending", what="no more room")
    backfill("tune", run, "--max-pending", "none")
    backfill.json("watch", run)
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert backfill("report", run, "-o", str(path)).returncode == 0
    return path


def test_a_report_loads_no_other_resource_and_logs_no_console_message(
    page: "Page", report: Path, picture: Picture
) -> None:
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))

    page.goto(report.as_uri())

    assert (asked, said) == ([report.as_uri()], [])
    assert page.get_by_role("img").bounding_box()
    page.set_viewport_size({"width": 1080, "height": 1100})
    picture("report")


def test_every_score_has_a_bar_as_long_as_its_share(page: "Page", report: Path) -> None:
    page.goto(report.as_uri())

    section = page.get_by_role("region", name="All scores")
    assert section.get_by_role("row").count() > 4
    number = "row => Number(row.querySelector('td.number').textContent.replaceAll(',', ''))"
    length = "row => row.querySelector('rect').getBoundingClientRect().width"
    rows = section.locator("tbody tr").all()
    numbers, lengths = [row.evaluate(number) for row in rows], [row.evaluate(length) for row in rows]
    longest = max(zip(numbers, lengths, strict=True))
    assert lengths == pytest.approx([longest[1] * each / longest[0] for each in numbers], abs=1)
    assert longest[1] > 100


def test_a_workspaces_bar_has_a_piece_for_each_of_its_scores(page: "Page", report: Path) -> None:
    page.goto(report.as_uri())

    rows = page.get_by_role("region", name="By workspace").locator("tbody tr").all()
    cells = "row => [...row.querySelectorAll('td.number')].slice(1).filter(each => each.textContent !== '0').length"
    assert rows
    assert [row.locator("rect").count() for row in rows] == [row.evaluate(cells) for row in rows]


@pytest.mark.parametrize("width", [400, 1280])
def test_a_report_fits_the_windows_width(page: "Page", report: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})

    page.goto(report.as_uri())

    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_plot_follows_the_dark_color_scheme(page: "Page", report: Path) -> None:
    page.emulate_media(color_scheme="dark")

    page.goto(report.as_uri())

    ink = "element => getComputedStyle(element).fill"
    assert page.locator("svg text").first.evaluate(ink) == "rgb(228, 232, 236)"
