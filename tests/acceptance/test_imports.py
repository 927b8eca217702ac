"""What each process imports: Flower and Tornado only in Flower, and a command no slow library that it doesn't need."""

import re
import subprocess
from pathlib import Path

import pytest
from harness import Backfill, Worker, end, wait_for

FLOWERS = {"flower", "tornado", "backfill_tasks.worker.flower"}


@pytest.fixture
def reporting(backfill: Backfill) -> Backfill:
    """The command's environment, in which every Python process reports on standard error what it imports."""
    return backfill.set(PYTHONVERBOSE="1")


def imported(output: str) -> set[str]:
    """Return the modules that a process has imported, from what it reported."""
    return set(re.findall(r"^import '([\w.]+)' # ", output, re.MULTILINE))


def run_beat(reporting: Backfill, *command: str) -> set[str]:
    """Run beat until it has sent the watchdog once, and return what it has imported."""
    log = Path(reporting.directory / "beat.log")
    with log.open("wb") as output:
        beat = subprocess.Popen(
            [reporting.programs / command[0], *command[1:]],
            cwd=reporting.directory,
            env=dict(reporting.environment),
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: "Sending due task" in log.read_text(), what="beat")
    finally:
        end(beat)
    return imported(log.read_text())


def test_worker_imports_neither_flower_nor_tornado(reporting: Backfill) -> None:
    worker = Worker.start(reporting, concurrency=1)
    worker.stop()

    assert "backfill_tasks.worker.tasks" in imported(worker.output)
    assert not FLOWERS & imported(worker.output)


def test_worker_of_celerys_command_line_does_not_import_our_flower_module(reporting: Backfill) -> None:
    worker = Worker.start(reporting, concurrency=1, app="backfill_tasks")
    worker.stop()

    assert "backfill_tasks.worker.tasks" in imported(worker.output)
    assert "backfill_tasks.worker.flower" not in imported(worker.output)


def test_beat_imports_neither_flower_nor_tornado(reporting: Backfill) -> None:
    modules = run_beat(reporting, "backfill", "beat")

    assert "backfill_tasks.worker.beat" in modules
    assert not FLOWERS & modules


def test_beat_of_celerys_command_line_does_not_import_our_flower_module(reporting: Backfill) -> None:
    modules = run_beat(reporting, "celery", "-A", "backfill_tasks", "beat", "--pidfile=", "--loglevel=info")

    assert "backfill_tasks.worker.beat" in modules
    assert "backfill_tasks.worker.flower" not in modules


def test_help_imports_nothing_slow(reporting: Backfill) -> None:
    modules = imported(reporting("--help").stderr)

    assert "click" in modules
    assert not {"celery", "kombu", "psycopg", "redis", "rich", "sqlalchemy"} & modules


@pytest.mark.usefixtures("worker")
def test_runs_and_status_of_an_ended_run_import_neither_redis_nor_celery_nor_rich(
    backfill: Backfill, reporting: Backfill
) -> None:
    backfill.json("run", "--apply")

    for command in ("runs", "status"):
        done = reporting(command)
        assert done.returncode == 0
        assert "sqlalchemy" in imported(done.stderr)
        assert not {"celery", "kombu", "redis", "rich"} & imported(done.stderr)
