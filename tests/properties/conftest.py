"""Servers of the property tests: databases with two collations, and a Redis that tests can empty at any time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from long_forms import long
from properties.effort import SHORT
from properties.laboratory import Laboratory

from backfill_tasks.engine import chain
from sandbox.servers import Redis

_FAR_FROM_UTC = """
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone TO %L', current_database(), 'Asia/Kolkata'); END $$
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all property tests as long, unless HYPOTHESIS_PROFILE asks for few examples."""
    if not SHORT:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def emptied_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis for these tests alone."""
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(scope="session", params=["en_US.UTF-8", *long("C.UTF-8")])
def laboratory(
    request: pytest.FixtureRequest, make_database: Callable[..., str], emptied_redis: Redis
) -> Iterator[Laboratory]:
    """A host database that sorts by code point, and one with an English collation and a time zone far from UTC."""
    english = request.param == "en_US.UTF-8"
    url = make_database(locale="en_US.UTF-8" if english else None)
    if english:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_FAR_FROM_UTC)
    laboratory = Laboratory(url, emptied_redis.url)
    laboratory.prepare()
    yield laboratory
    laboratory.close()


@pytest.fixture(scope="module", autouse=True)
def _no_grace() -> Iterator[None]:
    """Give duplicates no grace period, so that only the test sends the next page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "_GRACE_SECONDS", 0.0)
        patch.setattr(chain, "_LOOK_SECONDS", 0.0)
        yield
