"""An operator's use of Flower, in a real browser."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from browser.conftest import Site
from browser.proxy import proxy
from harness import Flower, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

Picture = Callable[[str], None]

REASON = "canceling statement due to lock timeout (55P03)"


def test_the_task_list_shows_run_lane_page_and_result(page: "Page", site: Site, picture: Picture) -> None:
    page.goto(f"{site.flower.url}/tasks")
    search(page, site.run["run_id"])

    rows = wait_for(lambda: len(listed(page)) == tasks_of(site) and listed(page), what="all tasks of the run")

    done = {row["uuid"]: row["result"] for row in rows if row["state"] == "SUCCESS"}
    assert set(done) == {
        f"{site.run['run_id']}:lane-{lane['number']:02}:{number:06}:g{generation}"
        for lane in site.run["lanes"]
        for number, generation in generations(site, lane["number"], lane["pages"])
    }
    assert all(re.match(r"committed read=\d+ inserted=\d+", result) for result in done.values()), done
    assert right_edge(page.get_by_role("columnheader", name="Result")) < 1280
    picture("flower-tasks")


def test_search_finds_the_tasks_of_a_lane_and_page(page: "Page", site: Site) -> None:
    page.goto(f"{site.flower.url}/tasks")

    search(page, "kwargs:lane=1 kwargs:page=2")

    wait_for(lambda: len(listed(page)) == 1, what="the only task")
    assert ":lane-01:000002:" in listed(page)[0]["uuid"]


def test_a_failed_pages_reason_is_shown_in_list_and_detail(page: "Page", site: Site, picture: Picture) -> None:
    page.goto(f"{site.flower.url}/tasks")

    page.get_by_role("button", name="Failed").click()
    wait_for(lambda: [row["state"] for row in listed(page)] == ["FAILURE"], what="the failed page alone")
    (failed,) = listed(page)
    assert failed["result"] == f"{REASON}: given up after 1 retries"
    page.get_by_role("link", name=failed["uuid"]).click()

    assert of_task(page, "Status") == "FAILURE"
    assert of_task(page, "Result") == f"{REASON}: given up after 1 retries"
    assert f"'lane': {stopped_lane(site)}, 'page': " in of_task(page, "Keyword arguments")
    picture("flower-failed")


def test_the_rate_limit_can_be_viewed_and_changed(page: "Page", site: Site, picture: Picture) -> None:
    open_limits(page, site.flower.url)
    assert limit_of_a_page(page).startswith("backfill.page [rate_limit=20/s")

    set_limit(page, 7)

    wait_for(lambda: "rate_limit=7" in reread(page), what="the worker to have the new limit")
    picture("flower-rate")


def test_flower_works_behind_a_url_prefix(page: "Page", site: Site) -> None:
    flower = Flower.start(site.backfill, "--url-prefix=ops/flower")
    broken: list[str] = []
    page.on("response", lambda answer: broken.append(answer.url) if answer.status >= 400 else None)
    try:
        flower.wait_for_a_worker("/ops/flower")
        with proxy(flower.port, "ops/flower") as outside:
            page.goto(f"{outside}/ops/flower/")
            page.get_by_role("link", name="Tasks").click()
            site.backfill.json("run", "--apply", "--limit", "100")
            page.reload()
            page.locator("#tasks-table a", has_text=":lane-01:000001:").click()
            assert of_task(page, "Status") == "SUCCESS"
            open_limits(page, f"{outside}/ops/flower")
            set_limit(page, 9)
            wait_for(lambda: "rate_limit=9" in reread(page), what="the worker to have the new limit")
        assert broken == []
    finally:
        flower.stop()


# ---- a run's expected tasks


def tasks_of(site: Site) -> int:
    """Return the run's number of tasks: one per page, plus the failed one."""
    pages: int = site.run["pages"]
    return pages + 1


def stopped_lane(site: Site) -> int:
    (number,) = (lane["number"] for lane in site.failed["lanes"] if lane["state"] == "failed")
    return int(number)


def generations(site: Site, lane: int, pages: int) -> list[tuple[int, int]]:
    """Return a lane's pages with their generations: pages after its failure have the second one."""
    (before,) = (each["pages"] for each in site.failed["lanes"] if each["number"] == lane)
    return [(number, 1 if number <= before else 2) for number in range(1, pages + 1)]


# ---- Flower's pages


def search(page: "Page", text: str) -> None:
    page.get_by_role("searchbox").fill(text)


def listed(page: "Page") -> list[dict[str, str]]:
    """Return the displayed rows of the task list, by column heading."""
    names = page.locator("#tasks-table_wrapper thead").first.locator("th").all_inner_texts()
    rows = page.locator("#tasks-table tbody tr").all()
    cells = [row.locator("td").all_inner_texts() for row in rows]
    return [dict(zip((name.lower() for name in names), row, strict=True)) for row in cells if len(row) == len(names)]


def right_edge(element: "Locator") -> float:
    box = element.first.bounding_box()
    assert box is not None
    return box["x"] + box["width"]


def of_task(page: "Page", name: str) -> str:
    """Return a value from a task's page by its name."""
    return page.locator(".detail-row", has=page.get_by_text(name, exact=True)).locator("dd").inner_text().strip()


def open_limits(page: "Page", flower: str) -> None:
    page.goto(f"{flower}/")
    page.locator(".worker-name-link").first.click()
    page.get_by_role("tab", name="Limits").click()


def limit_of_a_page(page: "Page") -> str:
    return page.locator("#limits-table tr", has_text="backfill.page").locator("td").first.inner_text()


def set_limit(page: "Page", rate: int) -> None:
    """Type a rate for the page task into the form, apply it, and wait until Flower confirms it."""
    row = page.locator("#limits-table tr", has_text="backfill.page")
    row.get_by_placeholder("Rate").fill(str(rate))
    row.get_by_role("button", name="Apply").click()
    page.get_by_role("status").filter(has_text="rate").wait_for()


def reread(page: "Page") -> str:
    """Return the page task's limit after refreshing the worker."""
    page.reload()
    page.locator("#tab-limits.show").wait_for()
    return limit_of_a_page(page)
