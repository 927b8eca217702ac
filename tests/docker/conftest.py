"""Fixtures of the tests that need Docker: without an engine they skip and say so.

The containers are pytest-celery's and pytest-docker-tools': its default broker, its worker with the project's image,
no result backend. A PostgreSQL alongside them has a fresh host database for each test.
"""

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import docker
import psycopg
import pytest
from containers import (
    SETTINGS,
    BackfillWorker,
    BackfillWorkerContainer,
    BrokerContainer,
    HostDatabase,
    PostgresContainer,
)
from docker.errors import DockerException
from pytest_celery import CeleryBrokerCluster, CeleryTestWorker, CeleryWorkerCluster, RedisTestBroker
from pytest_docker_tools import container, fxtr, network

from sandbox.host.sample import Sample, create_schema, fill
from sandbox.installation import Installation
from sandbox.servers import create_database


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Skip unless a Docker engine answers and Compose v2 is installed."""
    try:
        docker.from_env(timeout=10).ping()
        subprocess.run(["docker", "compose", "version"], check=True, capture_output=True)
    except (DockerException, OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no Docker engine with Compose v2 answers here: {error}")


@pytest.fixture(scope="session")
def installation(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of this checkout, its images built, with nothing running."""
    made = Installation.make(tmp_path_factory.mktemp("installation"), COMPOSE_PROFILES="demo,metrics", **SETTINGS)
    made.compose("build", seconds=300)
    yield made
    made.remove()


# ---- images


@pytest.fixture(scope="session")
def image(installation: Installation) -> str:
    """The name of the workers' image."""
    return installation.image


@pytest.fixture(scope="session")
def newer_image(image: str, docker_client: docker.DockerClient) -> Iterator[str]:
    """The name of an image of a later release, whose message format has one more field."""
    model = "/opt/backfill/lib/python3*/site-packages/backfill_tasks/engine/model.py"
    field = "0,/^    waits: int = 0$/s//&\\n    novelty: int = 1/"
    dockerfile = f"""
        FROM {image}
        USER root
        RUN sed -i -e 's/^MESSAGE_FORMAT = .*/MESSAGE_FORMAT = 999/' -e '{field}' {model} \\
         && grep -q '= 999$' {model} && grep -q novelty {model}
        USER backfill
    """
    name = f"{image}:newer"
    docker_client.images.build(fileobj=BytesIO(dockerfile.encode()), tag=name, rm=True)
    yield name
    docker_client.images.remove(name, force=True)


# ---- the host's database

#: One network for all tests, so that one PostgreSQL serves them all.
default_pytest_celery_network = network(scope="session")

# In memory, so that no volume is left over.
postgres = container(
    scope="session",
    image="postgres:17",
    environment={"POSTGRES_PASSWORD": "postgres"},
    network="{default_pytest_celery_network.name}",
    ports={"5432/tcp": None},
    tmpfs={"/var/lib/postgresql/data": ""},
    wrapper_class=PostgresContainer,
    timeout=60,
)


@pytest.fixture(scope="session")
def filled(postgres: PostgresContainer) -> Sample:
    """The contents of the database `filled`, with 2,000 leads: the template to copy."""
    url = create_database(postgres.url, "filled")
    with psycopg.connect(url, autocommit=True) as connection:
        create_schema(connection)
        return fill(connection, 2_000)


@pytest.fixture
def host(postgres: PostgresContainer, filled: Sample) -> HostDatabase:
    """A fresh host database with 2,000 leads."""
    name = f"host_{secrets.token_hex(4)}"
    outside = create_database(postgres.url, name, template="filled")
    inside = f"postgresql://postgres:postgres@{postgres.attrs['Config']['Hostname']}/{name}"
    return HostDatabase(outside, inside, filled)


# ---- broker, workers, beat

# Like pytest-celery's, without persistence; in memory, so that no volume is left over.
default_redis_broker = container(
    image="{default_redis_broker_image}",
    ports=fxtr("default_redis_broker_ports"),
    environment=fxtr("default_redis_broker_env"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=BrokerContainer,
    command=fxtr("default_redis_broker_command"),
    tmpfs={"/data": ""},
    timeout=60,
)


@pytest.fixture
def celery_broker_cluster(celery_redis_broker: RedisTestBroker) -> CeleryBrokerCluster:
    """Only Redis, not every broker that pytest-celery knows."""
    return CeleryBrokerCluster(celery_redis_broker)


@pytest.fixture
def celery_worker_cluster(celery_setup_worker: BackfillWorker) -> CeleryWorkerCluster:
    return CeleryWorkerCluster(celery_setup_worker)


@pytest.fixture
def celery_backend_cluster() -> None:
    """No result backend: outcomes are in the ledger."""


@pytest.fixture
def settings() -> dict[str, str]:
    """The settings of all containers; a test that needs more parametrizes this fixture."""
    return {}


@pytest.fixture
def default_worker_env(
    celery_worker_cluster_config: dict[str, Any], host: HostDatabase, settings: dict[str, str]
) -> dict[str, str]:
    (broker,) = celery_worker_cluster_config["celery_broker_cluster_config"]["urls"]
    return {"DATABASE_URL": host.inside, "REDIS_URL": broker, **SETTINGS, **settings}


@pytest.fixture
def default_worker_container_cls() -> type[BackfillWorkerContainer]:
    return BackfillWorkerContainer


@pytest.fixture
def default_worker_cls() -> type[CeleryTestWorker]:
    return BackfillWorker


def of_image(image: str, **arguments: Any) -> Any:
    """Return a container of one of our images, confined as docker-compose.yml confines it."""
    return container(
        image=image,
        environment=fxtr("default_worker_env"),
        network="{default_pytest_celery_network.name}",
        read_only=True,
        cap_drop=["ALL"],
        tmpfs={"/tmp": ""},  # noqa: S108  the container's own
        timeout=60,
        **arguments,
    )


BEAT = ["backfill", "beat"]

# Without a command, the image runs a worker.
default_worker_container = of_image("{image}", wrapper_class=BackfillWorkerContainer)
newer_worker_container = of_image("{newer_image}", wrapper_class=BackfillWorkerContainer)
beat = of_image("{image}", command=BEAT)
newer_beat = of_image("{newer_image}", command=BEAT)


@pytest.fixture
def newer_worker(newer_worker_container: BackfillWorkerContainer, celery_setup_app: Any) -> BackfillWorker:
    """A worker of the later release."""
    return BackfillWorker(newer_worker_container, celery_setup_app)


@pytest.fixture
def newer_command(
    docker_client: docker.DockerClient,
    newer_image: str,
    default_pytest_celery_network: Any,
    default_worker_env: dict[str, str],
) -> Callable[..., dict[str, Any]]:
    """Runs the later release's command with --json in its own container, and returns its object."""

    def run(*arguments: str) -> dict[str, Any]:
        command = ["backfill", *arguments, "--json"]
        network = default_pytest_celery_network.name
        said = docker_client.containers.run(
            newer_image, command, environment=default_worker_env, network=network, remove=True
        )
        found: dict[str, Any] = json.loads(said)
        return found

    return run
