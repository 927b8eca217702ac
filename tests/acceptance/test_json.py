"""`--json` prints the documented fields."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from acceptance.commands import backfill_against
from acceptance.host import make_host
from harness import Backfill

from sandbox.servers import Redis

PAGE = (Path(__file__).parents[2] / "docs/reference/json.md").read_text(encoding="utf-8")


def documented(heading: str) -> set[str]:
    """Return the fields in the table below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))


def fields_of(content: Mapping[str, Any]) -> set[str]:
    """Return the names of an object's fields, and of the fields of objects in its lists."""
    listed = (each for value in content.values() if isinstance(value, list) for each in value if isinstance(each, dict))
    return {*content, *(name for each in listed for name in each)}


@pytest.fixture(scope="module")
def backfill(
    make_database: Callable[..., str], deserted_broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Backfill:
    """The command, and a host with a run without a worker; no test changes it."""
    host = make_host(make_database(), 100)
    command = backfill_against(tmp_path_factory.mktemp("json"), host.url, deserted_broker.url)
    command("run", "--apply", "--detach")
    return command


@pytest.fixture(scope="module")
def run(backfill: Backfill) -> Mapping[str, Any]:
    found: Mapping[str, Any] = backfill.json("status")
    return found


def test_a_run_has_the_documented_fields(run: Mapping[str, Any]) -> None:
    assert set(run) == documented("A run")


def test_a_lane_has_the_documented_fields(run: Mapping[str, Any]) -> None:
    assert set(run["lanes"][0]) == documented("A lane")


def test_the_hosts_results_have_the_documented_fields(run: Mapping[str, Any]) -> None:
    assert set(run["host"]) == documented("The host and the run's jobs")


def test_the_road_has_the_documented_fields(run: Mapping[str, Any]) -> None:
    assert set(run["road"]) == documented("The road")
    assert {f"jobs.{name}" for name in run["road"]["jobs"]} == set(re.findall(r"^\| `(jobs\.\w+)`", PAGE, re.MULTILINE))


def test_a_listed_run_has_all_fields_except_the_marked_ones(run: Mapping[str, Any], backfill: Backfill) -> None:
    marked = set(re.findall(r"^\| `(\w+)` \*", PAGE, re.MULTILINE))

    (listed,) = backfill.json("runs")["runs"]

    assert set(listed) == set(run) - marked


@pytest.mark.parametrize("command", ["verify", "events", "pressure", "rate"])
def test_all_fields_of_other_commands_are_documented(run: Mapping[str, Any], backfill: Backfill, command: str) -> None:
    (row,) = re.findall(rf"^\| `backfill {command}` \| (.*) \|$", PAGE, re.MULTILINE)

    assert fields_of(backfill.json(command)) <= set(re.findall(r"`(\w+)`", row))
