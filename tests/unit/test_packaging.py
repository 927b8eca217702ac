"""What is stated both here and in Docker's or another tool's files agrees."""

import re
import tomllib
from pathlib import Path

import backfill_tasks
from backfill_tasks import __version__
from backfill_tasks.settings import VARIABLES

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_public_name_is_there() -> None:
    assert all(getattr(backfill_tasks, name).__name__ == name for name in backfill_tasks.__all__)


def test_every_public_name_is_documented() -> None:
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "another-backfill.md").read_text(encoding="utf-8")

    assert [name for name in backfill_tasks.__all__ if not re.search(rf"\b{name}\b", api)] == []
    assert [name for name in {*backfill_tasks.__all__} - {"Client"} if not re.search(rf"\b{name}\b", guide)] == []


def test_the_image_is_labelled_with_the_version() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    assert re.findall(r'org\.opencontainers\.image\.version="(.*)"', dockerfile) == [__version__]


def test_the_example_of_env_names_settings_that_there_are() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")

    named = set(re.findall(r"BACKFILL_\w+", example))

    assert named <= {variable.name for variable in VARIABLES}


def test_the_example_of_env_gives_nothing_a_value() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE) == [
        ("DATABASE_URL", ""),
        ("REDIS_PASSWORD", ""),
        ("FLOWER_BASIC_AUTH", ""),
    ]


def test_the_hooks_before_a_commit_are_what_make_lint_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")

    target = re.findall(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[0]

    assert re.findall(r"^ +entry: (.*)$", hooks, re.MULTILINE) == re.findall(r"^\t(\.venv/.*)$", target, re.MULTILINE)


def test_the_pythons_of_the_package_begin_with_the_oldest_that_it_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))

    assert named[0] == project["requires-python"].removeprefix(">=")
