"""The containers of the Docker tests: a host database, and pytest-celery's containers for our image."""

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

#: The tool's settings in all containers: a lane with a lost task is detected within seconds.
SETTINGS: Mapping[str, str] = {**UNBOUNDED, "BACKFILL_STANDING_SECONDS": "2", "BACKFILL_WATCHDOG_SECONDS": "1"}


@dataclass(frozen=True)
class HostDatabase:
    """A host database: its URLs from this machine and from a container, and its initial contents."""

    url: str
    inside: str
    sample: Sample

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def wait_for_pages(self, number: int) -> None:
        """Wait until this many pages are committed."""
        wait_for(lambda: len(self.rows("SELECT FROM backfill.page")) >= number, what=f"{number} pages")

    def wait_until_complete(self, run: str) -> None:
        complete = "SELECT FROM backfill.run WHERE id = %s AND state = 'complete'"
        wait_for(lambda: self.rows(complete, run), what=f"run {run} to be complete")


class Published:
    """A mixin: tests use the container's published port, even if they run in a container themselves.

    In that case pytest-docker-tools would use the port of the container's network, and pytest-celery would combine it
    with localhost.
    """

    ports: Mapping[str, list[int]]

    def get_addr(self, port: str) -> tuple[str, int]:
        return "127.0.0.1", self.ports[port][0]


class PostgresContainer(Published, wrappers.Container):  # type: ignore[misc]
    """A PostgreSQL container."""

    @property
    def url(self) -> str:
        """The superuser's URL from this machine."""
        host, port = self.get_addr("5432/tcp")
        return f"postgresql://postgres:postgres@{host}:{port}/postgres"


class BrokerContainer(Published, RedisContainer):  # type: ignore[misc]
    """pytest-celery's Redis container."""

    def waiting(self) -> dict[str, int]:
        """Return the number of waiting messages per page queue; a queue's name ends with its format's version."""
        queues = self.client.keys("backfill.v*")
        return {name: self.client.llen(name) for name in queues}

    def hand_over(self, source: str, target: str) -> None:
        """Move all messages of one queue to another."""
        while self.client.rpoplpush(source, target):
            pass


class BackfillWorkerContainer(CeleryWorkerContainer):
    """A container of our image, which runs a worker by default: no command, no volume with an app."""

    @classmethod
    def worker_name(cls) -> str:
        return "celery"

    def stop(self) -> int:
        """Stop it like `docker stop`, with the grace period of docker-compose.yml; return its exit status."""
        self._container.stop(timeout=30)
        status: int = self._container.wait()["StatusCode"]
        return status


class BackfillWorker(CeleryTestWorker):  # type: ignore[misc]
    """A worker container, with its version of the command."""

    def backfill(self, *arguments: str) -> dict[str, Any]:
        """Run the command with --json in the container and return its object."""
        done = self.container.exec_run(["backfill", *arguments, "--json"], demux=True)
        output, errors = done.output
        assert done.exit_code == 0, f"exit status {done.exit_code}: {errors!r} {output!r}"
        found: dict[str, Any] = json.loads(output)
        return found

    def pages(self) -> int:
        """Return the number of pages it has done."""
        return int(self.logs().count("page committed: "))
