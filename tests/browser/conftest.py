"""Fixtures of the browser tests: a run in Flower, and a logged-in browser.

Without Debian's chromium and Playwright, these tests skip, and fail in CI. If SCREENSHOTS names a folder, they save
screenshots in it: `make screenshots`.
"""

import importlib
import importlib.util
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from harness import UNBOUNDED, Backfill, Flower, Worker

from sandbox.servers import Servers

if TYPE_CHECKING:
    from conftest import HostTemplate
    from playwright.sync_api import Browser, Page

#: For root in a container, without background traffic.
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: A job of ours that a run refreshes: a lock on its row blocks the page.
_A_JOB_THAT_WAITS = """
SELECT job.id FROM "BackgroundJob" AS job JOIN "Lead" AS lead ON lead.id = job."leadId"
WHERE job."dedupeKey" = 'lead_scoring_backfill:' || lead.id AND job.status = 'PENDING' AND lead."overallScore" IS NULL
ORDER BY lead.id DESC LIMIT 1
"""


@dataclass(frozen=True)
class Site:
    """A worker, a Flower with a login, and a run that failed and was resumed.

    Attributes:
        failed: the run after its failure, with a failed lane.
        run: the run after its completion.
    """

    backfill: Backfill
    flower: Flower
    failed: dict[str, Any]
    run: dict[str, Any]


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Debian's chromium, with an empty profile."""
    chromium = shutil.which("chromium")
    missing = [
        *([] if chromium else ["chromium (Debian: apt install chromium)"]),
        *([] if importlib.util.find_spec("playwright") else ["playwright (make test-browser installs it)"]),
    ]
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no browser: {' and '.join(missing)} is missing")
    with importlib.import_module("playwright.sync_api").sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=_OPTIONS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def site(
    browser: "Browser",
    server: Servers,
    make_database: Callable[..., str],
    host_template: "HostTemplate",
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """The site, shared by all tests."""
    backfill = Backfill(
        tmp_path_factory.mktemp("site"),
        {
            **{name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")},
            "DATABASE_URL": make_database(template=host_template.name),
            "REDIS_URL": server.redis_url,
            "BACKFILL_QUEUE": f"test-{secrets.token_hex(4)}",
            **UNBOUNDED,
            "BACKFILL_RATE_LIMIT": "20/s",
            "BACKFILL_PAGE_RETRIES": "1",
        },
    )
    with ExitStack() as stack:
        worker = Worker.start(backfill)
        stack.callback(worker.stop)
        flower = Flower.start(backfill)
        stack.callback(flower.stop)
        flower.wait_for_a_worker()
        with psycopg.connect(backfill.database_url) as host:
            host.execute(f'SELECT FROM "BackgroundJob" WHERE id = ({_A_JOB_THAT_WAITS}) FOR UPDATE'.encode())
            failed = backfill.json("run", "--apply", "--limit", "100", status=1)
        yield Site(backfill, flower, failed, backfill.json("run", "--resume"))


@pytest.fixture
def page(browser: "Browser", site: Site) -> "Iterator[Page]":
    """An empty page of 1,280 by 800 pixels, logged in."""
    user, password = str(site.flower.login).split(":")
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, http_credentials={"username": user, "password": password}
    )
    yield context.new_page()
    context.close()


@pytest.fixture
def picture(page: "Page") -> Callable[[str], None]:
    """Take a screenshot of the page, if SCREENSHOTS is set."""

    def take(name: str) -> None:
        folder = os.environ.get("SCREENSHOTS")
        if folder:
            page.evaluate("document.activeElement.blur()")
            page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")

    return take
