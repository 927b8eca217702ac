"""A Redis that loses everything: the run goes on from the ledger, resumed by command or by the watchdog."""

from collections.abc import Iterator

import pytest
from faults.stage import Beat, Stage
from harness import wait_for

from sandbox.servers import Redis


@pytest.fixture
def stage(own_shared_stage: Stage) -> Stage:
    """A stage on the module's Redis, with one worker and without beat."""
    own_shared_stage.restore()
    own_shared_stage.staff(1)
    return own_shared_stage


@pytest.fixture
def watchdog(stage: Stage) -> Iterator[Beat]:
    """Beat, which sends the watchdog."""
    beat = Beat.start(stage.backfill)
    yield beat
    beat.stop()


def test_a_run_whose_redis_was_emptied_is_resumed(stage: Stage) -> None:
    stage.sabotage.plan("taken up", "block", lane=1, page=3)
    run = stage.follow()
    stage.sabotage.wait_until_reached("taken up")

    empty(stage)
    resumed = stage.resume_and_follow()
    wait_for(lambda: stage.events("resumed"), what="the run to be resumed")
    stage.sabotage.release("taken up")

    stage.assert_done_once(resumed.end())
    stage.assert_done_once(run.end())


@pytest.mark.long
def test_a_run_that_lost_workers_and_redis_together_is_resumed_from_the_ledger(stage: Stage) -> None:
    run = stage.follow("--page-delay-ms", "100")
    stage.wait_for_pages(4)

    stage.workers[0].kill()
    empty(stage)
    stage.staff(1)
    resumed = stage.backfill("run", "--resume")

    assert resumed.returncode == 0
    assert "Redis had lost the cursor of 2 lanes: it was restored from the ledger." in resumed.stderr
    stage.assert_done_once(run.end())


@pytest.mark.long
def test_a_page_at_work_while_redis_is_emptied_goes_on_by_itself(stage: Stage) -> None:
    stage.sabotage.plan("page recorded", "block", page=3)
    run = stage.follow("--lanes", "1")
    stage.sabotage.wait_until_reached("page recorded")

    empty(stage)
    stage.sabotage.release("page recorded")

    stage.assert_done_once(run.end())


@pytest.mark.long
def test_the_watchdog_alone_heals_a_run_that_lost_workers_and_redis(stage: Stage, watchdog: Beat) -> None:
    run = stage.follow("--page-delay-ms", "100")
    stage.wait_for_pages(4)

    stage.workers[0].kill()
    empty(stage)
    stage.staff(1)

    stage.assert_done_once(run.end())
    assert {event["reason"] for event in stage.events("lane seeded again")} == {"its task was lost"}


def test_the_watchdog_alone_heals_a_run_whose_redis_came_back_empty(
    stage: Stage, own_redis: Redis, watchdog: Beat
) -> None:
    stage.sabotage.plan("page recorded", "block", lane=1, page=3)
    run = stage.follow()
    stage.sabotage.wait_until_reached("page recorded")

    own_redis.restart()
    stage.sabotage.release("page recorded")

    stage.assert_done_once(run.end())


@pytest.mark.long
def test_a_page_that_commits_while_redis_is_away_is_followed_when_it_is_back(
    stage: Stage, own_redis: Redis, watchdog: Beat
) -> None:
    stage.sabotage.plan("page recorded", "block", lane=1, page=3)
    run = stage.follow()
    stage.sabotage.wait_until_reached("page recorded")

    own_redis.kill()
    stage.sabotage.release("page recorded")
    wait_for(lambda: stage.lane()["page"] == 3, what="page 3 to be committed")
    own_redis.start()

    stage.assert_done_once(run.end())


def empty(stage: Stage) -> None:
    with stage.redis() as client:
        client.flushall()
