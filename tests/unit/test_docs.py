"""The documentation agrees with the code."""

import re
import runpy
from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path

import click
import pytest

from backfill_tasks import __version__
from backfill_tasks.cli.main import backfill
from backfill_tasks.settings import VARIABLES

ROOT = Path(__file__).parents[2]
PAGES: Callable[[], dict[str, str]] = runpy.run_path(str(ROOT / "docs/generate.py"))["pages"]
DEAD: Callable[[Path], list[str]] = runpy.run_path(str(ROOT / "docs/links.py"))["dead"]


def _commands() -> dict[str, click.Command]:
    """Return every command by name, imported."""
    root = click.Context(backfill)
    found = {name: backfill.get_command(root, name) for name in backfill.list_commands(root)}
    return {name: command for name, command in found.items() if command is not None}


COMMANDS = _commands()


@pytest.mark.parametrize("name", ["commands.md", "options.md", "settings.md"])
def test_generated_reference_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs/reference" / name).read_text(encoding="utf-8") == PAGES()[name], "call `make reference`"


def test_documented_defaults_match_the_settings() -> None:
    defaults = {each.name: each.default for each in VARIABLES}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    said = [
        found for page in pages for found in re.findall(r"`(BACKFILL_\w+)` \((\d[\d.]*)\)", page.read_text("utf-8"))
    ]

    assert said
    assert [(name, value) for name, value in said if defaults[name] != value] == []


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_shows_examples(name: str) -> None:
    lines = cleandoc(COMMANDS[name].help or "").splitlines()

    heads = [number for number, line in enumerate(lines) if line in ("Example:", "Examples:")]
    assert heads, f"`backfill {name} --help` has no example"
    assert lines[heads[0] + 1].startswith(f"  backfill {name}")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_option_and_argument_has_help(name: str) -> None:
    command = COMMANDS[name]
    options = [each for each in command.params if isinstance(each, click.Option)]
    arguments = [each.name or "" for each in command.params if isinstance(each, click.Argument)]

    said = cleandoc(command.help or "").lower()

    assert [each.name for each in options if not each.help] == []
    assert [each for each in arguments if each not in said] == []


def test_help_fits_in_80_columns() -> None:
    blocks = re.findall(r"```text\n(.*?)```", PAGES()["commands.md"], re.DOTALL)

    assert len(blocks) == 1 + len(COMMANDS)
    assert [line for block in blocks for line in block.splitlines() if len(line) > 80] == []


def test_every_readme_link_resolves() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    def leads(link: str) -> bool:
        path, _, heading = link.partition("#")
        target = ROOT / path if path else ROOT / "README.md"
        return target.exists() and (not heading or heading in slugs(target.read_text(encoding="utf-8")))

    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert links
    assert [link for link in links if not leads(link)] == []


def slugs(markdown: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub builds them."""
    heads = re.findall(r"^#+ (.*)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_changelog_begins_with_the_current_version() -> None:
    heads = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line[:3] == "## "]

    assert heads[0].startswith(f"## [{__version__}]")


def test_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h1 id="top">x</h1><a href="#top"></a><a href="#bottom"></a><a href="gone/"></a><img src="gone.svg">'
        '<a href="https://example.org/x"></a><a href="index.html#top"></a>'
    )

    assert sorted(DEAD(tmp_path)) == ["index.html: #bottom", "index.html: gone.svg", "index.html: gone/"]
