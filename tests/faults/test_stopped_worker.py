"""A worker asked to stop in mid-run stops in order, and another takes over its messages."""

import os
import signal

import pytest
from faults.stage import Stage
from harness import PATIENCE, Worker, wait_for


@pytest.mark.long
def test_a_worker_that_is_stopped_leaves_its_lanes_to_another(stage: Stage) -> None:
    run = stage.follow("--page-delay-ms", "200")
    stage.wait_for_pages(4)
    stopped = stage.workers[0]

    stopped.process.send_signal(signal.SIGTERM)

    assert stopped.process.wait(timeout=PATIENCE) == 0
    stage.assert_done_once(run.end())


def test_a_worker_that_is_stopped_ends_the_page_at_work(stage: Stage) -> None:
    (stopped,) = stage.keep_workers(1)
    stage.sabotage.plan("page done", "block", lane=1, page=3)
    run = stage.follow()
    stage.sabotage.wait_until_reached("page done")

    stopped.process.send_signal(signal.SIGTERM)
    stage.sabotage.release("page done")

    assert stopped.process.wait(timeout=PATIENCE) == 0
    assert stage.lane()["page"] >= 3
    stage.staff(2)
    stage.assert_done_once(run.end())


@pytest.mark.long
def test_a_worker_that_is_stopped_when_it_has_just_handed_pages_out_ends_soon(own_shared_stage: Stage) -> None:
    stage = own_shared_stage
    (stopped,) = stage.keep_workers(1)
    suspend_children(stopped)
    run = stage.follow()
    wait_for(lambda: len(stage.taken(stage.the_run())) == 2, what="a page of each lane to be taken")

    stopped.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not stage.backfill.json("rate")["workers"], what="it to listen to nobody any more")
    os.killpg(stopped.process.pid, signal.SIGCONT)

    assert stopped.process.wait(timeout=PATIENCE) == 0
    assert "stops without the pages" not in stopped.output
    stage.staff(1)
    stage.assert_done_once(run.end())


def suspend_children(worker: Worker) -> None:
    """Suspend a worker's children, but not its main process, which hands out pages."""
    os.killpg(worker.process.pid, signal.SIGSTOP)
    worker.process.send_signal(signal.SIGCONT)
