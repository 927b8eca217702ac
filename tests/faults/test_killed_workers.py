"""A worker killed between any two steps of a page: the run completes without an operator, each page done once."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from faults.stage import Stage
from harness import Worker, wait_for
from long_forms import long_except

IN_A_PAGE = (
    "taken up",
    "lane locked",
    "begin counted",
    "page done",
    "page recorded",
    "page committed",
    "next sent",
    "cursor moved",
)
AT_THE_END = ("lane ended", "run ended", "cursors forgotten")
MOMENTS = [*((step, 3) for step in IN_A_PAGE), *((step, None) for step in AT_THE_END)]


@pytest.mark.parametrize(("step", "page"), long_except(("page done", 3), MOMENTS))
def test_a_run_survives_a_killed_child_process(stage: Stage, step: str, page: int | None) -> None:
    stage.sabotage.plan(step, "kill child", page=page)

    run = stage.follow()

    stage.sabotage.wait_until_reached(step)
    stage.assert_done_once(run.end())


@pytest.mark.parametrize(("step", "page"), long_except(("page committed", 3), MOMENTS))
def test_a_run_survives_a_killed_worker(stage: Stage, step: str, page: int | None) -> None:
    stage.sabotage.plan(step, "kill worker", page=page)

    run = stage.follow()

    stage.sabotage.wait_until_reached(step)
    stage.replace_the_killed_worker()
    stage.assert_done_once(run.end())


@pytest.mark.long
def test_children_killed_during_worker_startup_are_replaced(stage: Stage) -> None:
    stage.keep_workers(0)
    worker = stage.launch_worker()
    killed: set[int] = set()

    def ready() -> bool:
        for child in children(worker) - killed:
            killed.add(child)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        assert worker.process.poll() is None, worker.output
        return " ready." in worker.output

    wait_for(ready, what=f"the worker to be ready: {worker.log}")

    assert killed
    stage.assert_done_once(stage.run())
    assert worker.process.poll() is None


def children(worker: Worker) -> set[int]:
    """Return the living child processes of a worker."""
    pid = worker.process.pid
    found = (task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children"))
    return {int(child) for each in found for child in each.split()}
