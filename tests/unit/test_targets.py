"""Each test is run by exactly one of the Makefile's targets. The exception are the property tests: `make test` tries
few examples of each, `make test-long` many."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
MARKERS = {marker.partition(":")[0]: marker for marker in OPTIONS["markers"]}


def _commands() -> dict[str, str]:
    """Return the commands of the targets that run tests."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^(test[\w-]*):.*\n((?:\t.*\n)+)", makefile, re.MULTILINE))


def _folders(marker: str) -> list[Path]:
    """Return the paths that the target of a marker gives to pytest."""
    (command,) = (command for command in _commands().values() if re.search(rf"-m {marker}\b", command))
    return [ROOT / path for path in re.findall(r" (tests/\S+)", command)] or [ROOT / "tests"]


def test_each_marker_has_one_target_and_is_left_out_of_make_test() -> None:
    selected = {
        name: re.findall(r"-m (\w+) ", command.partition("-m pytest")[2]) for name, command in _commands().items()
    }
    excluded = re.findall(r"not (\w+)", OPTIONS["addopts"])

    assert selected.pop("test") == []
    assert sorted(marker for markers in selected.values() for marker in markers) == sorted(MARKERS) == sorted(excluded)
    assert all(f"`make {name}` runs these" in MARKERS[marker] for name, (marker,) in selected.items())


def test_each_test_is_run_by_exactly_one_target(collected: list[pytest.Item]) -> None:
    folders = {marker: _folders(marker) for marker in MARKERS}
    marked = [(item, [name for name in MARKERS if item.get_closest_marker(name)]) for item in collected]

    assert [item.nodeid for item, markers in marked if len(markers) > 1] == []
    astray = [
        item.nodeid
        for item, markers in marked
        for marker in markers
        if not any(item.path.is_relative_to(folder) for folder in folders[marker])
    ]
    assert astray == []
