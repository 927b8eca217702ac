"""A Redis that refuses commands: pages wait with a reason in the ledger, lanes don't fail, and processes survive."""

from collections.abc import Iterator

import pytest
import redis
from faults.refusals import REFUSALS
from faults.stage import Beat, MakeStage, Stage
from harness import wait_for
from long_forms import long_except
from refusing import Refusing, refusing

from sandbox.servers import Redis


@pytest.fixture(scope="module")
def proxy(own_redis: Redis) -> Iterator[Refusing]:
    """The proxy in front of the module's Redis."""
    with refusing(own_redis.port) as made:
        yield made


@pytest.fixture(scope="module")
def module_stage(make_stage: MakeStage, proxy: Refusing) -> Iterator[Stage]:
    """A stage on that Redis without page retries after database errors."""
    made = make_stage(redis_url=f"redis://127.0.0.1:{proxy.port}/0", BACKFILL_PAGE_RETRIES="0")
    yield made
    made.close()


@pytest.fixture(scope="module")
def beat(module_stage: Stage) -> Iterator[Beat]:
    """A beat that survives every refusal."""
    started = Beat.start(module_stage.backfill)
    yield started
    started.stop()


@pytest.fixture
def stage(module_stage: Stage, beat: Beat) -> Stage:
    """That stage, reset, with one worker and beat; the worker has survived the refusals of earlier tests."""
    assert beat.process.poll() is None
    module_stage.restore()
    module_stage.keep_workers(1)
    return module_stage


@pytest.fixture
def admin(own_redis: Redis) -> Iterator["redis.Redis"]:
    """A connection that bypasses the proxy and survives every refusal."""
    with redis.Redis(port=own_redis.port, decode_responses=True, single_connection_client=True) as client:
        yield client


@pytest.mark.parametrize("name", long_except("out of memory", list(REFUSALS)))
def test_workers_and_beat_survive_every_refusal(
    stage: Stage, beat: Beat, admin: "redis.Redis", proxy: Refusing, name: str
) -> None:
    (worker,) = stage.workers
    logged = len(worker.output)
    run = stage.follow("--lanes", "2", "--page-delay-ms", "100")
    stage.wait_for_pages(4)

    with REFUSALS[name].play(admin, proxy):
        # These two start during the refusal.
        second, second_beat = stage.launch_worker(), Beat.start(stage.backfill)
        wait_for(lambda: REFUSALS[name].seen_in(second.output), what=f"a line in {second.log}")
        if REFUSALS[name].is_sure:
            wait_for(lambda: REFUSALS[name].seen_in(worker.output[logged:]), what=f"a line in {worker.log}")

    try:
        second.wait_until_ready()
        stage.assert_done_once(run.end())
        for each in (worker, second, beat, second_beat):
            assert each.process.poll() is None, each.output[-3000:]
            assert "Traceback" not in each.output
    finally:
        second_beat.stop()


@pytest.mark.long
def test_a_page_waits_for_a_full_redis_and_its_lane_does_not_fail(stage: Stage, admin: "redis.Redis") -> None:
    stage.sabotage.plan("taken up", "block", page=3)
    run = stage.follow("--lanes", "1")
    stage.sabotage.wait_until_reached("taken up")

    admin.config_set("maxmemory", "1")
    stage.sabotage.release("taken up")
    wait_for(lambda: "Redis can't be used" in (stage.lane()["reason"] or ""), what="the lane's reason")
    admin.config_set("maxmemory", "0")

    stage.assert_done_once(run.end())
    assert stage.workers[0].process.poll() is None


@pytest.mark.long
def test_an_unsent_next_page_is_sent_later(stage: Stage, admin: "redis.Redis") -> None:
    stage.sabotage.plan("page committed", "block", page=3)
    run = stage.follow("--lanes", "1")
    stage.sabotage.wait_until_reached("page committed")

    admin.config_set("maxmemory", "1")
    stage.sabotage.release("page committed")
    wait_for(lambda: "page not sent, so the watchdog will" in stage.logs(), what="the page to be left")
    admin.config_set("maxmemory", "0")

    stage.assert_done_once(run.end())
    assert stage.workers[0].process.poll() is None
