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
    """The report of a run that was paused, and held back by jobs waiting in the host's queue."""
    backfill = site.backfill
    # The delay keeps the run from ending before these commands have changed it, on a busy machine, too.
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


def test_it_asks_for_nothing_else_and_has_nothing_to_complain_of(page: "Page", report: Path, picture: Picture) -> None:
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))

    page.goto(report.as_uri())

    assert (asked, said) == ([report.as_uri()], [])
    assert page.get_by_role("img").bounding_box()
    page.set_viewport_size({"width": 1080, "height": 1100})
    picture("report")


@pytest.mark.parametrize("width", [400, 1280])
def test_it_is_no_wider_than_the_window(page: "Page", report: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})

    page.goto(report.as_uri())

    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_its_plot_has_the_ink_of_a_dark_page(page: "Page", report: Path) -> None:
    page.emulate_media(color_scheme="dark")

    page.goto(report.as_uri())

    ink = "element => getComputedStyle(element).fill"
    assert page.locator("svg text").first.evaluate(ink) == "rgb(228, 232, 236)"
