"""Fixtures shared by the whole suite: real servers, one database per test, workers as processes."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from harness import UNBOUNDED, Backfill, Worker

from sandbox.host.sample import Sample, create_schema, fill
from sandbox.servers import Servers, create_database, drop_database, servers


def pytest_configure() -> None:
    """Stop ignoring SIGINT if the suite was started with `&`, so that child processes receive Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_COLLECTED = pytest.StashKey[list[pytest.Item]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember the collected tests, before the markers deselect most of them."""
    config.stash[_COLLECTED] = list(items)


@pytest.fixture
def collected(pytestconfig: pytest.Config) -> list[pytest.Item]:
    """Every test in the given files, selected or not."""
    return pytestconfig.stash[_COLLECTED]


@pytest.fixture(scope="session")
def server() -> Iterator[Servers]:
    """PostgreSQL and Redis: those named in the environment, or started here, with files that end with the session."""
    with TemporaryDirectory(prefix="backfill-test-") as directory, servers(Path(directory)) as started:
        yield started


@pytest.fixture(scope="session")
def make_database(server: Servers) -> Iterator[Callable[..., str]]:
    """Create databases that are dropped after the session, and return their URLs."""
    made: list[str] = []

    def make(*, template: str | None = None, locale: str | None = None) -> str:
        name = f"backfill_test_{secrets.token_hex(4)}"
        creator = server.postgres.create_database if server.postgres else None
        url = (
            creator(name, template=template, locale=locale)
            if creator
            else create_database(server.database_url, name, template=template, locale=locale)
        )
        made.append(name)
        return url

    yield make
    if server.postgres is None:  # the files of a server that was started here are deleted as a whole
        for name in made:
            drop_database(server.database_url, name)


@pytest.fixture
def empty_database(make_database: Callable[..., str]) -> str:
    """The URL of an empty database."""
    return make_database()


@dataclass(frozen=True)
class HostTemplate:
    """A filled host database to copy, and its contents."""

    name: str
    sample: Sample


@pytest.fixture(scope="session")
def host_template(make_database: Callable[..., str]) -> HostTemplate:
    """A sample host database of 2,000 leads with every kind of lead, tag and job; filled once per session."""
    url = make_database()
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection)
        sample = fill(connection, 2_000)
    return HostTemplate(url.rsplit("/", 1)[1], sample)


@pytest.fixture
def sample(host_template: HostTemplate) -> Sample:
    """The contents of the database `host`."""
    return host_template.sample


@pytest.fixture
def host(make_database: Callable[..., str], host_template: HostTemplate) -> str:
    """The URL of a fresh host database with 2,000 leads."""
    return make_database(template=host_template.name)


@pytest.fixture
def bare_host(empty_database: str) -> str:
    """The URL of a fresh host database with empty tables."""
    with psycopg.connect(empty_database) as connection:
        create_schema(connection)
    return empty_database


@pytest.fixture
def backfill(server: Servers, host: str, tmp_path: Path) -> Backfill:
    """The installed command on `host`, with its own queue on the session's Redis."""
    return Backfill(
        directory=tmp_path,
        environment={
            **{name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")},
            "DATABASE_URL": host,
            "REDIS_URL": server.redis_url,
            "BACKFILL_QUEUE": f"test-{secrets.token_hex(4)}",
            **UNBOUNDED,
        },
    )


@pytest.fixture
def start_worker(backfill: Backfill) -> Iterator[Callable[..., Worker]]:
    """Start real worker processes that end with the test."""
    started: list[Worker] = []

    def start(*, concurrency: int = 2, beat: bool = False, **environment: str) -> Worker:
        worker = Worker.start(backfill, concurrency=concurrency, beat=beat, environment=environment)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.stop()


@pytest.fixture
def worker(start_worker: Callable[..., Worker]) -> Worker:
    """One worker with two processes, ready."""
    return start_worker()
