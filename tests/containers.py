"""What the tests that need Docker are played on: a host database, and pytest-celery's containers for our image."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from harness import UNBOUNDED, wait_for
from psycopg.rows import dict_row
from pytest_celery import CeleryTestWorker, CeleryWorkerContainer, RedisContainer
from pytest_docker_tools import wrappers

from sandbox.host.sample import Sample

#: The tool's settings in all containers of these tests: a lane that has lost its task is seen within seconds.
SETTINGS: Mapping[str, str] = {**UNBOUNDED, "BACKFILL_STANDING_SECONDS": "2", "BACKFILL_WATCHDOG_SECONDS": "1"}


@dataclass(frozen=True)
class HostDatabase:
    """A host database, by its URLs from this machine and from a container, and what was in it in the beginning."""

    url: str
    inside: str
    sample: Sample

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def wait_for_pages(self, number: int) -> None:
        """Wait until so many pages are committed."""
        wait_for(lambda: len(self.rows("SELECT FROM backfill.page")) >= number, what=f"{number} pages")

    def wait_until_complete(self, run: str) -> None:
        complete = "SELECT FROM backfill.run WHERE id = %s AND state = 'complete'"
        wait_for(lambda: self.rows(complete, run), what=f"run {run} to be complete")


class Published:
    """Mixed into a container: its published port counts, even where these tests run in a container themselves.

    pytest-docker-tools takes a port of the container's network then, and pytest-celery one of localhost with it.
    """

    ports: Mapping[str, list[int]]

    def get_addr(self, port: str) -> tuple[str, int]:
        return "127.0.0.1", self.ports[port][0]


class PostgresContainer(Published, wrappers.Container):  # type: ignore[misc]
    """A PostgreSQL."""

    @property
    def url(self) -> str:
        """Its URL from this machine, as the user who may do everything."""
        host, port = self.get_addr("5432/tcp")
        return f"postgresql://postgres:postgres@{host}:{port}/postgres"


class BrokerContainer(Published, RedisContainer):  # type: ignore[misc]
    """pytest-celery's Redis."""

    def waiting(self) -> dict[str, int]:
        """How many messages wait in each queue of pages; the queue's name carries the version of their format."""
        queues = self.client.keys("backfill.v*")
        return {name: self.client.llen(name) for name in queues}

    def hand_over(self, source: str, target: str) -> None:
        """Put all messages of a queue into another."""
        while self.client.rpoplpush(source, target):
            pass


class BackfillWorkerContainer(CeleryWorkerContainer):
    """A container of our image, which is a worker without more: no command, no volume with an app in it."""

    @classmethod
    def worker_name(cls) -> str:
        return "celery"

    def stop(self) -> int:
        """Stop it as `docker stop` does, but with the time that docker-compose.yml gives; its exit status."""
        self._container.stop(timeout=30)
        status: int = self._container.wait()["StatusCode"]
        return status


class BackfillWorker(CeleryTestWorker):  # type: ignore[misc]
    """A worker container, and the command of its version in it."""

    def backfill(self, *arguments: str) -> dict[str, Any]:
        """Run the command with --json in the container to its end, and answer its object."""
        done = self.container.exec_run(["backfill", *arguments, "--json"], demux=True)
        output, errors = done.output
        assert done.exit_code == 0, f"exit status {done.exit_code}: {errors!r} {output!r}"
        found: dict[str, Any] = json.loads(output)
        return found

    def pages(self) -> int:
        """How many pages it has done."""
        return int(self.logs().count("page committed: "))
