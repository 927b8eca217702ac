"""A page's message delivered again, at any time and any number of times, is a no-op."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from faults.stage import Stage
from harness import wait_for

from backfill_tasks.engine.model import PageMessage, RunId


@pytest.mark.long
def test_duplicates_of_a_page_at_work_do_nothing(stage: Stage) -> None:
    stage.sabotage.plan("page recorded", "block", lane=1, page=3)
    run = stage.follow()
    stage.sabotage.wait_until_reached("page recorded")

    stage.deliver(PageMessage(stage.the_run(), 1, 3, 1), times=30)
    stage.sabotage.release("page recorded")

    stage.assert_done_once(run.end())


@pytest.mark.long
def test_a_duplicate_that_waits_in_vain_for_the_page_at_work_says_nothing_of_its_lane(stage: Stage) -> None:
    stage.sabotage.plan("page recorded", "block", lane=1, page=3)
    stage.sabotage.plan("page committed", "block", lane=1, page=3)
    run = stage.follow()
    stage.sabotage.wait_until_reached("page recorded")

    stage.deliver(PageMessage(stage.the_run(), 1, 3, 1))
    wait_for(lambda: any("UPDATE backfill.lane" in query for query in stage.blocked()), what="the duplicate to give up")
    stage.sabotage.release("page recorded")
    wait_for(lambda: not stage.blocked(), what="the duplicate to say why")

    assert stage.lane()["reason"] is None
    stage.sabotage.release("page committed")
    stage.assert_done_once(run.end())


def test_duplicates_of_every_page_after_the_end_do_nothing(stage: Stage) -> None:
    run = stage.run()

    for lane in run["lanes"]:
        for page in range(1, lane["pages"] + 1):
            stage.deliver(PageMessage(RunId(run["run_id"]), lane["number"], page, 1), times=3)

    stage.wait_until_quiet(RunId(run["run_id"]))
    stage.assert_done_once(stage.backfill.json("status"))


@pytest.mark.long
def test_a_duplicate_follows_a_committed_page_that_nobody_follows_yet(stage: Stage) -> None:
    stage.sabotage.plan("page committed", "block", lane=1, page=3)
    run = stage.follow()
    stage.sabotage.wait_until_reached("page committed")

    stage.deliver(PageMessage(stage.the_run(), 1, 3, 1), times=5)

    wait_for(lambda: stage.lane()["page"] > 3, what="a duplicate to send page 4")
    stage.sabotage.release("page committed")
    stage.assert_done_once(run.end())


@pytest.mark.long
def test_a_storm_of_duplicates_through_the_whole_run_does_not_split_a_lane(stage: Stage) -> None:
    with duplicates_of_all_pages(stage):
        run = stage.run("--page-delay-ms", "50")

    stage.wait_until_quiet(RunId(run["run_id"]))
    stage.assert_done_once(stage.backfill.json("status"))


@pytest.mark.long
def test_duplicates_do_not_wake_a_run_that_is_paused(stage: Stage) -> None:
    paused = stage.run("--single-batch", status=4)

    for page in (1, 2, 3):
        stage.deliver(PageMessage(RunId(paused["run_id"]), 1, page, 1), times=4)

    stage.wait_until_quiet(RunId(paused["run_id"]))
    assert stage.backfill.json("status")["pages"] == 1
    stage.assert_done_once(stage.resume())


def test_messages_of_an_older_chain_do_nothing(stage: Stage) -> None:
    paused = stage.run("--single-batch", status=4)
    stage.sabotage.plan("page recorded", "block", page=2)
    resumed = stage.resume_and_follow()
    stage.sabotage.wait_until_reached("page recorded")

    stage.deliver(PageMessage(RunId(paused["run_id"]), 1, 2, 1), times=5)
    stage.sabotage.release("page recorded")

    stage.assert_done_once(resumed.end())
    generations = stage.rows("SELECT DISTINCT generation FROM backfill.page WHERE number > 1")
    assert generations == [{"generation": 2}]


@contextmanager
def duplicates_of_all_pages(stage: Stage) -> Iterator[None]:
    """Deliver messages of past, present and coming pages of the current run, as fast as possible."""
    stopped = threading.Event()

    def storm() -> None:
        run = stage.the_run()
        for offset in itertools.cycle((0, 1, -1, 1, 2)):
            if stopped.wait(0.02):
                return
            for lane in stage.rows("SELECT number, page, generation FROM backfill.lane"):
                message = PageMessage(run, lane["number"], max(1, lane["page"] + offset), lane["generation"])
                stage.deliver(message, times=2)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
