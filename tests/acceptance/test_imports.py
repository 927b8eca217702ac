"""What a process imports: Flower's modules only in Flower, rich only for a live display."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Backfill, Worker, end, wait_for

FLOWERS = "backfill_tasks.worker.flower"

#: Imports what a worker and beat import, and names the packages.
LOAD = """
import sys
from backfill_tasks.worker.app import app
app.loader.import_default_modules()
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture
def witnessed(backfill: Backfill) -> Backfill:
    """The command's environment, in which `celery -A witness` finds its app."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return backfill.set(PYTHONPATH=path)


def test_app_imports_neither_flower_nor_tornado(backfill: Backfill) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=backfill.directory,
        env=dict(backfill.environment),
        capture_output=True,
        text=True,
        check=True,
    )

    assert "celery" in done.stdout.split()
    assert not {"flower", "tornado"} & set(done.stdout.split())


def test_worker_does_not_import_flowers_part(witnessed: Backfill) -> None:
    worker = Worker.launch(witnessed, concurrency=1, app="witness")
    try:
        wait_for(lambda: "modules: " in worker.output, what="the witness")
    finally:
        worker.stop()

    assert "backfill_tasks.worker.tasks" in worker.output
    assert FLOWERS not in worker.output


def test_beat_does_not_import_flowers_part(witnessed: Backfill) -> None:
    log = witnessed.directory / "beat.log"
    with log.open("wb") as output:
        beat = subprocess.Popen(
            [witnessed.programs / "celery", "-A", "witness", "beat", "--pidfile="],
            cwd=witnessed.directory,
            env=dict(witnessed.environment),
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: "modules: " in log.read_text(), what="the witness")
    finally:
        end(beat)

    assert "backfill_tasks.worker.beat" in log.read_text()
    assert FLOWERS not in log.read_text()


@pytest.mark.parametrize("command", ["runs", "status", "verify", "watch"])
def test_command_without_a_live_display_does_not_import_rich(command: str) -> None:
    load = f"import sys, backfill_tasks.cli.commands.{command}; print('rich' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
