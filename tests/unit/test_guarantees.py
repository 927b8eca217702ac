"""docs/guarantees.md names a test for every promise, and those tests exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
GUARANTEES = TESTS.parent / "docs/guarantees.md"


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(\S+\.py)::(test_\w+)`", GUARANTEES.read_text(encoding="utf-8"))

    missing = [f"{path}::{name}" for path, name in named if not _exists(TESTS / path, name)]

    assert named
    assert missing == []


def test_every_promise_names_a_test() -> None:
    text = GUARANTEES.read_text(encoding="utf-8")
    promised = text.partition("## What is promised")[2].partition("## What is not promised")[0]
    rows = [
        row for row in re.findall(r"^\| (.*) \|$", promised, re.MULTILINE) if not row.startswith(("promise", "---"))
    ]

    assert rows
    assert [row for row in rows if "::test_" not in row] == []


def _exists(path: Path, name: str) -> bool:
    return path.is_file() and re.search(rf"def {name}\(", path.read_text(encoding="utf-8")) is not None
