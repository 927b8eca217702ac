"""Fixtures of the fault suite: an audited host database, and stages for injecting faults."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from faults.stage import ATTENTIVE, HERE, Beat, MakeStage, Sabotage, Stage
from harness import UNBOUNDED, Backfill

from sandbox.host.sample import Sample, create_schema, fill
from sandbox.servers import Redis, Servers, create_database


@pytest.fixture(scope="session")
def audited_template(make_database: Callable[..., str]) -> tuple[str, Sample]:
    """The name of a host database of 2,000 leads with audit triggers, and its contents."""
    url = make_database()
    return url.rsplit("/", 1)[1], _fill(url, 2_000)


@pytest.fixture(scope="session")
def make_stage(
    server: Servers,
    make_database: Callable[..., str],
    audited_template: tuple[str, Sample],
    tmp_path_factory: pytest.TempPathFactory,
) -> MakeStage:
    """Make stages without workers. `close` ends one.

    Both servers are the session's unless other URLs are given; other variables go to the command and the workers.
    """
    template, sample = audited_template

    def make(*, database_url: str | None = None, redis_url: str | None = None, **variables: str) -> Stage:
        counted = sample
        if database_url is None:
            url = make_database(template=template)
        else:
            url = create_database(database_url, f"stage_{secrets.token_hex(4)}")
            counted = _fill(url, 500)
        directory = tmp_path_factory.mktemp("stage")
        return _stage(directory, url, redis_url or server.redis_url, counted, variables)

    return make


def _fill(url: str, leads: int) -> Sample:
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection)
        sample = fill(connection, leads)
        connection.execute((HERE / "audit.sql").read_bytes())
    return sample


def _stage(directory: Path, url: str, redis_url: str, sample: Sample, variables: dict[str, str]) -> Stage:
    sabotage = Sabotage(directory / "sabotage")
    sabotage.folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
    backfill = Backfill(
        directory,
        {
            **environment,
            **UNBOUNDED,
            "DATABASE_URL": url,
            "REDIS_URL": redis_url,
            "BACKFILL_QUEUE": f"test-{secrets.token_hex(4)}",
            **ATTENTIVE,
            **variables,
        },
    )
    assert backfill("init").returncode == 0
    return Stage(backfill, sample, sabotage)


@pytest.fixture(scope="session")
def shared_stage(make_stage: MakeStage) -> Iterator[Stage]:
    """A stage with beat. Its two workers survive a test that doesn't kill them."""
    shared = make_stage(BACKFILL_PAGE_RETRIES="2")
    with psycopg.connect(shared.backfill.database_url, autocommit=True) as connection:
        # The page detects a deadlock before the host does, and so is always the one to lose it.
        connection.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 50', current_database()); END $$"
        )
    beat = Beat.start(shared.backfill)
    yield shared
    beat.stop()
    shared.close()


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    """The shared stage, reset: pristine host, no run in the ledger, two workers and beat running."""
    shared_stage.restore()
    shared_stage.staff(2)
    return shared_stage


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """A Redis for this module alone, without persistence."""
    with Redis() as started:
        yield started


@pytest.fixture(scope="module")
def own_shared_stage(make_stage: MakeStage, own_redis: Redis) -> Iterator[Stage]:
    """A stage on that Redis, shared by the module; tests start and stop its workers."""
    made = make_stage(redis_url=own_redis.url)
    yield made
    made.close()


@pytest.fixture
def own_stage(make_stage: MakeStage) -> Iterator[MakeStage]:
    """Make stages that end with the test."""
    made: list[Stage] = []

    def make(**arguments: str) -> Stage:
        made.append(make_stage(**arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()
