"""One rate for the whole fleet: set through Celery's commands, for joining workers, and during Redis faults."""

from typing import Any

import pytest
from faults.rate import HALT, ask, fleet, set_through_celery, shown, waiting
from faults.stage import Stage
from harness import wait_for

from backfill_tasks.engine.model import PageMessage, RunId
from backfill_tasks.engine.rate import Rate
from sandbox.servers import Redis


@pytest.fixture
def stage(own_shared_stage: Stage) -> Stage:
    """An idle stage with two workers of two processes each, without a rate limit."""
    own_shared_stage.keep_workers(2)
    fleet(own_shared_stage).set(Rate("none"))
    wait_for(lambda: set(waiting(own_shared_stage).values()) == {0}, what="the workers to be idle")
    return own_shared_stage


def halt(stage: Stage) -> None:
    """Set a rate at which no page starts."""
    fleet(stage).set(Rate(HALT))
    wait_for(lambda: shown(stage) == {HALT}, what="all workers to know")


class Pages:
    """Pages of a run that doesn't exist: each starts, finds no run, and ends."""

    def __init__(self, stage: Stage, number: int, *, name: str = "none-such") -> None:
        self._stage = stage
        self._before = self._started()
        self.number = number
        self.ids = [f"{name}:lane-{lane:02d}:000001:g1" for lane in range(1, number + 1)]
        for lane in range(1, number + 1):
            stage.deliver(PageMessage(RunId(name), lane, 1, 1))

    @property
    def started(self) -> int:
        return self._started() - self._before

    def wait_until_all_started(self) -> None:
        wait_for(lambda: self.started >= self.number, what=f"{self.number} pages to start")

    def wait_until_they_wait(self, number: int) -> None:
        wait_for(lambda: sum(waiting(self._stage).values()) == number, what=f"{number} pages to wait for the rate")

    def _started(self) -> int:
        return sum(log.read_text(errors="replace").count("page unknown") for log in self._logs())

    def _logs(self) -> Any:
        return self._stage.backfill.directory.glob("worker-*.log")


def test_without_a_limit_pages_start_without_a_redis_call_each(stage: Stage) -> None:
    with stage.redis() as client:
        before = calls(client)
        pages = Pages(stage, 200)
        pages.wait_until_all_started()

        assert calls(client) - before < 100


def calls(client: Any) -> int:
    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


def test_pages_waiting_for_the_rate_are_visible(stage: Stage) -> None:
    halt(stage)

    pages = Pages(stage, 6)

    pages.wait_until_they_wait(4)
    reserved = [request["id"] for requests in ask(stage, "reserved").values() for request in requests]
    owned = [task for tasks in ask(stage, "backfill_holds").values() for task in tasks]
    assert len(reserved) == 4
    assert sorted(stage.backfill.json("rate")["workers"].values()) == [2, 2]
    assert set(reserved) == set(owned) <= set(pages.ids)
    assert pages.started == 0


@pytest.mark.long
def test_removing_the_limit_releases_all_waiting_pages(stage: Stage) -> None:
    halt(stage)
    pages = Pages(stage, 6)
    pages.wait_until_they_wait(4)

    assert stage.backfill("rate", "none").returncode == 0

    pages.wait_until_all_started()
    assert set(waiting(stage).values()) == {0}


def test_a_rate_limited_run_does_every_lead_once(stage: Stage) -> None:
    run = stage.run("--lanes", "4", "--page-delay-ms", "20", "--rate", "100/s")

    stage.assert_done_once(run)


@pytest.mark.parametrize(("given", "applied"), [("7/s", "7/s"), (5, "5"), ("0.5/s", "0.5/s"), (None, "none")])
def test_celerys_rate_limit_command_sets_the_rate(stage: Stage, given: str | float | None, applied: str) -> None:
    fleet(stage).set(Rate("9/s"))

    answers = set_through_celery(stage, given)

    assert answers == [{"ok": f"the rate of all workers together is {applied}"}] * 2
    assert fleet(stage).read() == Rate(applied)


@pytest.mark.long
def test_a_rate_sent_to_one_worker_applies_to_all(stage: Stage) -> None:
    one = next(iter(waiting(stage)))

    ask(stage, "rate_limit", only=[one], task_name="backfill.page", rate_limit="5")  # like Flower's form

    wait_for(lambda: shown(stage) == {"5"}, what="both workers to show it")


@pytest.mark.parametrize("given", ["0", 0, "NaN", "fast", "-1/s", "20/d"])
def test_an_invalid_rate_is_refused_with_a_clear_answer(stage: Stage, given: str | float) -> None:
    fleet(stage).set(Rate("9/s"))

    answers = set_through_celery(stage, given)

    assert [answer["error"].partition(":")[0] for answer in answers] == [f"'{given}' is not a rate"] * 2
    assert fleet(stage).read() == Rate("9/s")


def test_a_rate_too_low_for_the_waiting_pages_is_refused(stage: Stage) -> None:
    halt(stage)
    Pages(stage, 6).wait_until_they_wait(4)

    answers = set_through_celery(stage, "3/h")

    assert "the last of 6 pages in flight may wait 7,200 s and then take 900 s" in answers[0]["error"]
    assert fleet(stage).read() == Rate(HALT)


@pytest.mark.long
def test_other_tasks_keep_celerys_rate_limit(stage: Stage) -> None:
    answers = set_through_celery(stage, "9/s", of="backfill.watchdog")

    assert answers == [{"ok": "new rate limit set successfully"}] * 2
    assert fleet(stage).read() == Rate("none")
    assert set_through_celery(stage, None, of="backfill.watchdog") == [{"ok": "rate limit disabled successfully"}] * 2


@pytest.mark.long
def test_changing_the_rate_releases_no_waiting_page(stage: Stage) -> None:
    halt(stage)
    pages = Pages(stage, 2)
    pages.wait_until_they_wait(2)

    for rate in ("4/h", "5/h", "6/h", "7/h"):
        set_through_celery(stage, rate)

    assert sum(waiting(stage).values()) == 2
    assert pages.started == 0


@pytest.mark.long
def test_a_joining_worker_has_the_rate_before_its_first_page(stage: Stage) -> None:
    halt(stage)
    pages = Pages(stage, 6)
    pages.wait_until_they_wait(4)

    stage.start_worker()

    pages.wait_until_they_wait(6)
    assert pages.started == 0


@pytest.mark.long
def test_a_stopping_worker_returns_its_waiting_pages(stage: Stage) -> None:
    halt(stage)
    pages = Pages(stage, 6)
    stage.keep_workers(2)
    pages.wait_until_they_wait(4)

    stage.keep_workers(1)

    assert len(stage.queued(RunId("none-such"))) == 4


def test_a_killed_worker_does_not_use_up_the_rate(stage: Stage) -> None:
    halt(stage)
    pages = Pages(stage, 6)
    pages.wait_until_they_wait(4)

    stage.workers[0].kill()
    fleet(stage).set(Rate("10/s"))

    wait_for(lambda: pages.started == 4, what="the other worker to start all that it can have")


@pytest.mark.long
def test_workers_restore_the_rate_in_an_emptied_redis(stage: Stage) -> None:
    halt(stage)

    with stage.redis() as client:
        client.flushall()

    wait_for(lambda: fleet(stage).read() == Rate(HALT), what="the rate to be back")


@pytest.mark.long
def test_waiting_pages_do_not_start_after_redis_restarts_empty(stage: Stage, own_redis: Redis) -> None:
    halt(stage)
    pages = Pages(stage, 6)
    pages.wait_until_they_wait(4)

    own_redis.restart()

    wait_for(lambda: fleet(stage).read() == Rate(HALT), what="the rate to be back")
    assert pages.started == 0


@pytest.mark.long
def test_waiting_pages_are_dropped_with_a_lost_connection(stage: Stage) -> None:
    halt(stage)
    pages = Pages(stage, 2)
    pages.wait_until_they_wait(2)

    with stage.redis() as client:
        client.flushall()
        client.client_kill_filter(_type="normal", skipme=True)

    wait_for(lambda: set(waiting(stage).values()) == {0}, what="the workers to be connected again")
    assert set(map(len, ask(stage, "backfill_holds").values())) == {0}
    assert pages.started == 0


@pytest.mark.long
def test_no_page_starts_without_a_rate_from_redis(stage: Stage) -> None:
    key = f"backfill:rate:{stage.backfill.environment['BACKFILL_QUEUE']}"
    said = {worker.log: worker.output.count("no page starts until") for worker in stage.workers}
    with stage.redis() as client:
        client.set(key, "not a hash")
    wait_for(
        lambda: all(worker.output.count("no page starts until") > said[worker.log] for worker in stage.workers),
        what="both workers to say so",
    )

    pages = Pages(stage, 4)

    pages.wait_until_they_wait(4)
    assert pages.started == 0
    stage.backfill("rate", "none")
    pages.wait_until_all_started()
