"""A program that the fork server starts behaves as if it had been executed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import fork_server
import pytest
from harness import PATIENCE

PROGRAMS = Path(sys.executable).parent
NOWHERE = {"DATABASE_URL": "postgresql://app:secret@127.0.0.1:1/host", "REDIS_URL": "redis://127.0.0.1:1/0"}


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, **NOWHERE, **variables}


def forked(*arguments: str, directory: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [PROGRAMS / "backfill", *arguments]
    return fork_server.run(command, timeout=PATIENCE, cwd=directory, env=environment(**variables))


@pytest.mark.parametrize("arguments", [["config"], ["run"], ["run", "--no-such-option"], []], ids=" ".join)
def test_output_and_exit_status_are_the_same(tmp_path: Path, arguments: list[str]) -> None:
    executed = subprocess.run(
        [PROGRAMS / "backfill", *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    done = forked(*arguments, directory=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (executed.returncode, executed.stdout, executed.stderr)


def test_each_program_has_its_own_environment_and_directory(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BACKFILL_LANES=7\n")

    inside, outside, given = (
        lanes(forked("config", directory=directory, **variables).stdout)
        for directory, variables in ((tmp_path, {}), (tmp_path.parent, {}), (tmp_path.parent, {"BACKFILL_LANES": "3"}))
    )

    assert (inside, outside, given) == ("7   (.env)", "2   (default)", "3   (environment)")


def lanes(config: str) -> str:
    """Return the value and the source of BACKFILL_LANES in the output of `backfill config`."""
    (line,) = (line for line in config.splitlines() if line.startswith("BACKFILL_LANES "))
    return line.partition(" = ")[2]


def test_a_variable_of_the_interpreter_takes_effect(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('customized')")

    done = forked("--help", directory=tmp_path, PYTHONPATH=str(tmp_path))

    assert done.stdout.startswith("customized\n")


def test_a_killed_program_has_the_status_of_its_signal(tmp_path: Path) -> None:
    command = [PROGRAMS / "celery", "-A", "backfill_tasks", "worker"]
    with (tmp_path / "log").open("wb") as log:
        process = fork_server.Process(
            command, cwd=tmp_path, env=environment(), stdout=log, stderr=log, start_new_session=True
        )

    assert os.getpgid(process.pid) == process.pid
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(timeout=PATIENCE) == -signal.SIGKILL
