"""A worker asked to stop during a Redis or PostgreSQL fault ends within its container's grace period."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import pytest
from faults.breaking import made_a_replica, suspended
from faults.stage import Beat, MakeStage, Stage
from long_forms import long_except

from chaos.process import descendants
from sandbox.servers import Postgres, Redis

#: Far longer than the grace period of docker-compose.yml, for a busy machine.
LONGEST_SECONDS = 90


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that no other test uses."""
    with Postgres() as started:
        yield started


@pytest.fixture(scope="module")
def module_stage(make_stage: MakeStage, own_redis: Redis, own_postgres: Postgres) -> Iterator[Stage]:
    """A stage on its own servers, with beat."""
    made = make_stage(redis_url=own_redis.url, database_url=own_postgres.url)
    beat = Beat.start(made.backfill)
    yield made
    beat.stop()
    made.close()


@pytest.fixture
def stage(module_stage: Stage) -> Stage:
    """That stage, reset, with one worker."""
    module_stage.restore()
    module_stage.keep_workers(1)
    return module_stage


@contextmanager
def gone(redis: Redis) -> Iterator[None]:
    redis.kill()
    try:
        yield
    finally:
        redis.start()


@contextmanager
def refusing(stage: Stage) -> Iterator[None]:
    with stage.redis() as client, made_a_replica(client):
        yield


Fault = Callable[[Stage, Redis, Postgres], AbstractContextManager[None]]

FAULTS: Mapping[str, Fault] = {
    "redis frozen": lambda _, redis, __: suspended(redis.pid or 0),
    "redis gone": lambda _, redis, __: gone(redis),
    "redis refusing": lambda stage, _, __: refusing(stage),
    "postgres frozen": lambda _, __, postgres: suspended(postgres.pid or 0, *descendants(postgres.pid or 0)),
}

#: Containers stop with SIGQUIT (REMAP_SIGTERM). A warm stop (SIGTERM) waits a while for the pages in flight.
STOPS = [
    *((name, signal.SIGQUIT) for name in FAULTS),
    *((f"{on} frozen", signal.SIGTERM) for on in ("redis", "postgres")),
]


@pytest.mark.parametrize(("name", "number"), long_except(STOPS[0], STOPS))
def test_a_worker_stops_in_time_during_a_fault(
    stage: Stage, own_redis: Redis, own_postgres: Postgres, name: str, number: signal.Signals
) -> None:
    (worker,) = stage.workers
    run = stage.follow("--limit", "5", "--page-delay-ms", "100")
    stage.wait_for_pages(4)

    with FAULTS[name](stage, own_redis, own_postgres):
        os.kill(worker.process.pid, number)
        assert worker.process.wait(timeout=LONGEST_SECONDS) == 0

    stage.staff(1)
    stage.assert_done_once(run.end())
