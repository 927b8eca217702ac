"""The documentation says what the code says."""

import runpy
from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path

import pytest

from backfill_tasks import __version__
from cli.main import backfill

ROOT = Path(__file__).parents[2]
PAGES: Callable[[], dict[str, str]] = runpy.run_path(str(ROOT / "docs/generate.py"))["pages"]
DEAD: Callable[[Path], list[str]] = runpy.run_path(str(ROOT / "docs/links.py"))["dead"]


@pytest.mark.parametrize("name", ["commands.md", "settings.md"])
def test_the_generated_reference_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs/reference" / name).read_text(encoding="utf-8") == PAGES()[name], "call `make reference`"


@pytest.mark.parametrize("name", list(backfill.commands))
def test_every_command_shows_examples(name: str) -> None:
    lines = cleandoc(backfill.commands[name].help or "").splitlines()

    heads = [number for number, line in enumerate(lines) if line in ("Example:", "Examples:")]
    assert heads, f"`backfill {name} --help` has no example"
    assert lines[heads[0] + 1].startswith(f"  backfill {name}")


def test_the_changelog_begins_with_this_version() -> None:
    heads = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line[:3] == "## "]

    assert heads[0].startswith(f"## [{__version__}]")


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h1 id="top">x</h1><a href="#top"></a><a href="#bottom"></a><a href="gone/"></a><img src="gone.svg">'
        '<a href="https://example.org/x"></a><a href="index.html#top"></a>'
    )

    assert sorted(DEAD(tmp_path)) == ["index.html: #bottom", "index.html: gone.svg", "index.html: gone/"]
