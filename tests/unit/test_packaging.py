"""What stands twice, once in Python's world and once in Docker's, says the same."""

import re
from pathlib import Path

from backfill_tasks import __version__
from backfill_tasks.settings import VARIABLES

ROOT = Path(__file__).resolve().parent.parent.parent


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
