"""Fixtures of the acceptance tests: one shared host database, Redis and worker, reset for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from acceptance.commands import Follow, OpenTerminal, backfill_against, empty
from acceptance.exporter import Export, Exporter
from acceptance.host import Host, make_host
from harness import Backfill, Terminal, Worker

from sandbox.host.sample import Sample
from sandbox.servers import Redis


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """The tests' Redis, with their worker on it."""
    with Redis(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture(scope="session")
def deserted_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis without workers."""
    with Redis(tmp_path_factory.mktemp("deserted-broker")) as started:
        yield started


@pytest.fixture(scope="session")
def shared_host(make_database: Callable[..., str]) -> Host:
    """A host database of 2,000 leads with every kind of lead, tag and job."""
    shared = make_host(make_database())
    shared.keep()
    return shared


@pytest.fixture(scope="session")
def shared_worker(shared_host: Host, broker: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker with two processes, shared by all tests."""
    started = Worker.start(backfill_against(tmp_path_factory.mktemp("worker"), shared_host.url, broker.url))
    yield started
    started.stop()


@pytest.fixture
def inhabited(shared_host: Host) -> Host:
    """The host database in its initial state, without a ledger."""
    shared_host.restore()
    return shared_host


@pytest.fixture
def sample(shared_host: Host) -> Sample:
    """The initial contents of the host database."""
    return shared_host.sample


@pytest.fixture
def worker(shared_worker: Worker, broker: Redis) -> Worker:
    """The worker, idle."""
    assert shared_worker.process.poll() is None, f"the worker ended: {shared_worker.output}"
    empty(broker)
    return shared_worker


@pytest.fixture
def backfill(inhabited: Host, broker: Redis, tmp_path: Path) -> Backfill:
    """The command on the host database and the worker's Redis."""
    return backfill_against(tmp_path, inhabited.url, broker.url)


@pytest.fixture
def alone(inhabited: Host, deserted_broker: Redis, tmp_path: Path) -> Backfill:
    """The command on the host database and an empty Redis without a worker."""
    empty(deserted_broker)
    return backfill_against(tmp_path, inhabited.url, deserted_broker.url)


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Start commands that end with the test."""
    started: list[Popen[str]] = []

    def start(backfill: Backfill, *arguments: str) -> Popen[str]:
        started.append(backfill.popen(*arguments))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def open_terminal() -> Iterator[OpenTerminal]:
    """Start commands on their own terminals, which close with the test."""
    opened: list[Terminal] = []

    def start(backfill: Backfill, *arguments: str) -> Terminal:
        opened.append(Terminal(backfill, *arguments))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


@pytest.fixture
def export() -> Iterator[Export]:
    """Start exporters that end with the test."""
    started: list[Exporter] = []

    def start(backfill: Backfill, *options: str) -> Exporter:
        started.append(Exporter.start(backfill, *options))
        return started[-1]

    yield start
    for each in started:
        each.stop()
