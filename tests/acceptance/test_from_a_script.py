"""The old script's command lines: every row of the table in docs/from-a-script.md is correct."""

import os
import re
import shlex
from pathlib import Path

import pytest
from acceptance.commands import assert_refused
from harness import Backfill
from long_forms import long

PAGE = Path(__file__).parents[2] / "docs/from-a-script.md"
ROWS = re.findall(
    r"^\| `backfill (run[^`]*)` \| (accepted|refused)(?:: `([^`]*)`)?[^|]* \|$", PAGE.read_text(), re.MULTILINE
)


def test_the_page_has_its_table() -> None:
    assert len(ROWS) >= 15


@pytest.mark.parametrize(("line", "verdict", "why"), ROWS)
def test_each_row_of_the_table_is_true(alone: Backfill, line: str, verdict: str, why: str) -> None:
    (alone.directory / "old.json").write_text('{"version": 1, "cursor": null}')
    (alone.directory / "script.json").write_text('{"version": 1, "cursor": null, "runAtIndex": 731}')
    (alone.directory / "dry.json").write_text(
        '{"version": 1, "cursor": "c1", "runAtIndex": 0, "totals": {"enqueued": 731}}'
    )

    done = alone(*shlex.split(line))

    if verdict == "accepted":
        assert done.returncode == (4 if "singleBatch" in line else 0), done.stderr  # 4: not all pages
    else:
        assert done.returncode in {1, 2}
        assert why, "a refusal has its reason in the table"
        assert why in done.stderr


@pytest.mark.parametrize("kind", ["fifo", "device", "loop", "large", "directory"])
@pytest.mark.parametrize("command", [["run", "--apply", "--detach"], *long(["run", "--resume", "--detach"])])
def test_an_invalid_state_file_is_refused_at_once(alone: Backfill, kind: str, command: list[str]) -> None:
    file = alone.directory / "state"
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "loop":
            file.symlink_to(file)
        case "directory":
            file.mkdir()
        case _:
            file.write_text(" " * 1_000_001)
    if kind == "large" and "--apply" in command:
        pytest.skip("a file that is replaced may be of any size")

    assert_refused(alone(*command, "--state-file", "state"))
