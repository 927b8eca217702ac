"""The watchdog reseeds a lane with a lost task, and leaves every other lane alone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from faults.stage import Action, Beat, Following, MakeStage, Stage
from harness import Backfill, wait_for

from backfill_tasks.engine.model import RunId


@pytest.fixture
def stage(own_stage: MakeStage) -> Stage:
    """A stage without beat: the test triggers the watchdog."""
    made = own_stage()
    made.start_worker()
    return made


def test_a_lane_with_a_slow_page_is_not_reseeded(stage: Stage) -> None:
    stage.sabotage.plan("page recorded", "block", page=3)
    stage.sabotage.plan("watchdog done", "block")
    run = stage.follow("--lanes", "1")
    stage.sabotage.wait_until_reached("page recorded")
    stage.wait_until_stalled(1)

    stage.send_watchdog()
    stage.sabotage.wait_until_reached("watchdog done")

    assert stage.events("lane seeded again") == []
    assert stage.lane()["generation"] == 1
    stage.sabotage.clear()
    stage.assert_done_once(run.end())


@pytest.mark.long
def test_a_lane_that_fails_during_the_watchdogs_check_stays_failed(stage: Stage) -> None:
    run = let_the_watchdog_find_a_stalled_lane(stage)
    take_rights(stage)
    stage.send_watchdog()
    run.end(status=1)

    stage.sabotage.plan("watchdog done", "block")
    stage.sabotage.release("stalled lane found")
    stage.sabotage.wait_until_reached("watchdog done")

    assert (stage.lane()["state"], stage.lane()["generation"]) == ("failed", 2)
    assert stage.lane()["reason"] == "page 3: the host's function fault.refuse() raised an error (42501)"


@pytest.mark.long
def test_a_lane_that_moves_during_the_watchdogs_check_is_left_alone(stage: Stage) -> None:
    run = let_the_watchdog_find_a_stalled_lane(stage)
    stage.sabotage.plan("page recorded", "block", page=5)
    stage.send_watchdog()
    stage.sabotage.wait_until_reached("page recorded")

    stage.sabotage.plan("watchdog done", "block")
    stage.sabotage.release("stalled lane found")
    stage.sabotage.release("page recorded")
    ended = run.end()

    stage.assert_done_once(ended)
    assert len(stage.events("lane seeded again")) == 1
    assert not stage.queued(RunId(ended["run_id"]))


@pytest.mark.long
@pytest.mark.parametrize("action", ["kill child", "kill worker"])
def test_a_lane_with_a_held_but_unsent_page_is_reseeded(own_stage: MakeStage, action: Action) -> None:
    stage = own_stage(BACKFILL_MAX_TRANSACTION_AGE="1", BACKFILL_PRESSURE_SECONDS="1")
    stage.start_worker()
    stage.sabotage.plan("page committed", action, page=1)  # the hold commits before the next message is sent
    with old_transaction(stage):
        run = stage.follow("--lanes", "1")
        stage.sabotage.wait_until_reached("page committed")
    if action == "kill worker":
        stage.replace_the_killed_worker()
    else:
        wait_for(lambda: "page duplicate" in stage.logs(), what="the child's message to come back, and to be dropped")
    stage.wait_until_stalled(1)
    stood = stage.lane()

    stage.send_watchdog()

    stage.assert_done_once(run.end())
    assert (stood["page"], stood["waits"], stood["generation"]) == (0, 1, 1)
    assert stage.events("lane seeded again") == [{"lane": 1, "page": 0, "reason": "its task was lost"}]


@pytest.mark.long
def test_a_lane_is_reseeded_while_all_worker_processes_are_busy(own_stage: MakeStage) -> None:
    stage = own_stage(BACKFILL_VISIBILITY_TIMEOUT="600")
    stage.start_worker(concurrency=1)
    stage.sabotage.plan("page recorded", "block", lane=1, page=2)
    run = stage.follow("--lanes", "2")
    stage.sabotage.wait_until_reached("page recorded")
    wait_for(lambda: stage.queued(stage.the_run()), what="the other lane's page in the queue")
    lose_what_is_queued(stage)
    stage.wait_until_stalled(2)

    beat = Beat.start(stage.backfill)

    wait_for(lambda: stage.events("lane seeded again"), what="a lane to be seeded again")
    assert [event["lane"] for event in stage.events("lane seeded again")] == [2]
    stage.sabotage.clear()
    stage.assert_done_once(run.end())
    beat.stop()


@pytest.mark.long
def test_lanes_with_lost_messages_are_reseeded_at_the_lowest_rate(own_stage: MakeStage) -> None:
    stage = own_stage(BACKFILL_VISIBILITY_TIMEOUT="604800")
    worker = stage.start_worker()
    stage.backfill("rate", "1/h")
    run = stage.follow("--lanes", "2")
    wait_for(lambda: stage.taken(stage.the_run()), what="the worker to take a page")
    worker.kill()
    lose_what_is_queued(stage)
    stage.staff(1)
    stage.wait_until_stalled(1, 2)

    beat = Beat.start(stage.backfill)

    wait_for(lambda: len(stage.events("lane seeded again")) == 2, what="both lanes to be seeded again")
    stage.backfill("rate", "none")
    stage.assert_done_once(run.end())
    beat.stop()


def lose_what_is_queued(stage: Stage) -> None:
    """Remove every message from Redis."""
    with stage.redis() as client:
        client.delete(stage.queue, "unacked", "unacked_index")


@contextmanager
def old_transaction(stage: Stage) -> Iterator[None]:
    """Hold pages back with an old open transaction."""
    with stage.database() as connection, connection.transaction():
        old = "SELECT WHERE clock_timestamp() - now() > interval '1 s'"
        wait_for(lambda: connection.execute(old).fetchall(), what="the transaction to be old")
        yield


def let_the_watchdog_find_a_stalled_lane(stage: Stage) -> Following:
    """Kill a run's worker at page 3, and stop the watchdog right after it has found the lane stalled."""
    stage.sabotage.plan("page recorded", "kill worker", page=3)
    run = stage.follow("--lanes", "1")
    stage.replace_the_killed_worker()
    stage.wait_until_stalled(1)
    stage.sabotage.plan("stalled lane found", "block")
    stage.send_watchdog()
    stage.sabotage.wait_until_reached("stalled lane found")
    return run


def take_rights(stage: Stage) -> None:
    """Make the host refuse every job of the backfill with a missing privilege, which is never retried."""
    with stage.database() as connection:
        connection.execute(
            """
            CREATE SCHEMA IF NOT EXISTS fault;
            CREATE FUNCTION fault.refuse() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN RAISE EXCEPTION 'the backfill may not' USING ERRCODE = '42501'; END $$;
            CREATE TRIGGER fault BEFORE INSERT OR UPDATE ON "BackgroundJob"
              FOR EACH ROW EXECUTE FUNCTION fault.refuse();
            """
        )


def test_the_watchdog_is_a_no_op_before_the_first_run(backfill: Backfill) -> None:
    look = "from backfill_tasks.worker.tasks import watchdog; print(watchdog())"

    looked = subprocess.run(
        [sys.executable, "-c", look],
        cwd=backfill.directory,
        env=dict(backfill.environment),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (looked.returncode, looked.stdout) == (0, "{'seeded': []}\n"), looked.stderr
