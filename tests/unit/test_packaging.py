"""Facts stated both here and in the files of Docker and other tools agree."""

import re
import tomllib
from pathlib import Path

import backfill_tasks
from backfill_tasks import __version__
from backfill_tasks.settings import VARIABLES

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_public_name_exists() -> None:
    assert all(getattr(backfill_tasks, name).__name__ == name for name in backfill_tasks.__all__)


def test_every_public_name_is_documented() -> None:
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "another-backfill.md").read_text(encoding="utf-8")

    assert [name for name in backfill_tasks.__all__ if not re.search(rf"\b{name}\b", api)] == []
    assert [name for name in {*backfill_tasks.__all__} - {"Client"} if not re.search(rf"\b{name}\b", guide)] == []


def test_image_label_has_the_version() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    assert re.findall(r'org\.opencontainers\.image\.version="(.*)"', dockerfile) == [__version__]


def test_env_example_names_existing_settings_only() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")

    named = set(re.findall(r"BACKFILL_\w+", example))

    assert named <= {variable.name for variable in VARIABLES}


def test_env_example_sets_no_value() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE) == [
        ("DATABASE_URL", ""),
        ("REDIS_PASSWORD", ""),
        ("FLOWER_BASIC_AUTH", ""),
    ]


def test_pre_commit_hooks_match_make_lint() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")

    target = re.findall(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[0]

    assert re.findall(r"^ +entry: (.*)$", hooks, re.MULTILINE) == re.findall(r"^\t(\.venv/.*)$", target, re.MULTILINE)


def test_oldest_python_classifier_matches_requires_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))

    assert named[0] == project["requires-python"].removeprefix(">=")
