"""Fixtures of the tests that need Docker: without an engine they skip, and say so."""

import subprocess
from collections.abc import Iterator

import docker
import pytest
from containers import Installation
from docker.errors import DockerException


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Skip where no Docker engine answers, or Compose v2 is not there."""
    try:
        docker.from_env(timeout=10).ping()
        subprocess.run(["docker", "compose", "version"], check=True, capture_output=True)
    except (DockerException, OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no Docker engine with Compose v2 answers here: {error}")


@pytest.fixture(scope="session")
def installation(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of this checkout with its image built, and nothing running."""
    made = Installation.make(tmp_path_factory.mktemp("installation"))
    made.compose("build", "worker", timeout=300)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def image(installation: Installation) -> str:
    """The name of the project's image."""
    return installation.image
