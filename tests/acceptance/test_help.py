"""Readable help, and unwritable output."""

import subprocess
import sys
from pathlib import Path

import pytest
from harness import Backfill
from long_forms import long

COMMANDS = ["run", "status", "watch", "runs", "verify", "rate", "pause", "cancel", "init", "config"]
PROGRAM = Path(sys.executable).parent / "backfill"


def test_the_bare_command_shows_its_help_on_standard_error(alone: Backfill) -> None:
    done = alone()

    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: backfill" in done.stderr
    assert [command for command in COMMANDS if f"  {command} " not in done.stderr] == []


@pytest.mark.parametrize("command", [(), ("run",), ("init",), ("verify",), ("rate",)], ids=" ".join)
def test_help_fits_a_terminal_without_stray_characters(alone: Backfill, command: tuple[str, ...]) -> None:
    done = alone(*command, "--help")

    assert done.returncode == 0
    assert "\\b" not in done.stdout
    assert "\b" not in done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def test_run_help_has_one_example_per_line(alone: Backfill) -> None:
    lines = [line.strip() for line in alone("run", "--help").stdout.splitlines()]

    first = lines.index("Examples:") + 1
    assert all(line.startswith("backfill run") for line in lines[first : first + 5])


@pytest.mark.parametrize("arguments", [["init", "--sql"], *long(["run"], ["--help"])], ids=" ".join)
def test_a_full_disk_behind_standard_output_is_a_one_line_error(alone: Backfill, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, *arguments],
            cwd=alone.directory,
            env=dict(alone.environment),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr == "backfill: the output can't be written: No space left on device\n"


@pytest.mark.parametrize("arguments", [("config",), ("run",)], ids=" ".join)
def test_a_closed_standard_output_causes_no_traceback(alone: Backfill, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" >&-', PROGRAM, *arguments],
        cwd=alone.directory,
        env=dict(alone.environment),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )

    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
