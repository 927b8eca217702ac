"""A production-like installation: a folder like a clone on a server, with a filled .env, for `docker compose`.

It uses the demo's host, and its own project name, image name, passwords and ports, so any number of installations can
run next to a real one on the same engine.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

#: The parts of a clone that the image and docker-compose.yml need.
_FOLDERS = ("backfill_tasks", "cli", "sandbox")
_FILES = (
    ".dockerignore",
    ".env.example",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "celeryconfig.py",
    "constraints.txt",
    "docker-compose.yml",
    "pyproject.toml",
)


class InstallationError(Exception):
    """A docker command failed; the text is the command and its output."""


@dataclass(frozen=True)
class Installation:
    """A folder with docker-compose.yml and .env. Creating one builds and starts nothing.

    Attributes:
        folder: the folder.
        variables: the contents of .env.
    """

    folder: Path
    variables: Mapping[str, str]

    @classmethod
    def make(cls, folder: Path, **settings: str) -> "Installation":
        """Copy a clone's files, and fill in .env with new secrets and these settings."""
        for name in _FOLDERS:
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        for name in _FILES:
            shutil.copy(ROOT / name, folder / name)
        name = f"backfill-{secrets.token_hex(4)}"
        password = secrets.token_hex(16)
        made = cls(
            folder,
            {
                "COMPOSE_PROJECT_NAME": name,
                "COMPOSE_PROFILES": "demo",
                "IMAGE": name,
                "DATABASE_URL": f"postgresql://demo:{password}@postgres/demo",
                "POSTGRES_PASSWORD": password,
                "REDIS_PASSWORD": secrets.token_hex(16),
                "FLOWER_BASIC_AUTH": f"ops:{secrets.token_hex(16)}",
                "FLOWER_LISTEN": f"127.0.0.1:{_free_port()}",
                "BACKFILL_METRICS_TOKEN": secrets.token_hex(16),
                "METRICS_LISTEN": f"127.0.0.1:{_free_port()}",
            },
        )
        return made.set(**settings)

    def set(self, **variables: str) -> "Installation":
        """Rewrite .env with changed values; they apply to services started from then on."""
        changed = {**self.variables, **variables}
        text = "".join(f"{name}={value}\n" for name, value in changed.items())
        (self.folder / ".env").write_text(text, encoding="utf-8")
        return Installation(self.folder, changed)

    @property
    def image(self) -> str:
        """The name of the image of all services except the command's."""
        return self.variables["IMAGE"]

    @property
    def command_image(self) -> str:
        """The name of the image of the command."""
        return f"{self.image}-cli"

    def compose(self, *arguments: str, seconds: float = 120) -> str:
        """Run `docker compose …` and return its output.

        Raises:
            InstallationError: it failed.
        """
        return _output(["docker", "compose", *arguments], self.try_compose(*arguments, seconds=seconds))

    def try_compose(self, *arguments: str, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose …` and return its result, even if it failed."""
        return _run(["docker", "compose", *arguments], cwd=self.folder, seconds=seconds)

    def cli(self, *arguments: str, seconds: float = 120) -> str:
        """Run the operator's command without a terminal and return its output.

        Raises:
            InstallationError: it failed.
        """
        return self.compose("run", "--rm", "-T", "cli", *arguments, seconds=seconds)

    def json(self, *arguments: str, seconds: float = 120) -> dict[str, Any]:
        """Run the operator's command with --json and return the parsed object.

        Raises:
            InstallationError: it failed.
        """
        found: dict[str, Any] = json.loads(self.cli(*arguments, "--json", seconds=seconds))
        return found

    def workers_online(self) -> int:
        """Return how many workers answer Celery's ping."""
        ping = ["celery", "-A", "backfill_tasks", "inspect", "ping", "--timeout=2", "--json"]
        done = self.try_compose("exec", "-T", "beat", *ping)
        return len(json.loads(done.stdout)) if done.returncode == 0 else 0

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Return `docker inspect` of the running containers of these services, or of all."""
        ids = self.compose("ps", "--quiet", *services).split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
        return found

    def remove(self) -> None:
        """Remove its containers, volumes, network and images, if they exist."""
        self.try_compose("--profile=*", "down", "--volumes", "--remove-orphans", "--timeout=1")
        _run(["docker", "image", "rm", "--force", self.command_image, self.image])


def docker(*arguments: str) -> str:
    """Run `docker …` and return its output.

    Raises:
        InstallationError: it failed.
    """
    command = ["docker", *arguments]
    return _output(command, _run(command))


def _run(command: list[str], *, cwd: Path | None = None, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
    # Only what Docker needs, and no variable that would override .env.
    names = [name for name in os.environ if name in {"PATH", "HOME"} or name.startswith("DOCKER_")]
    return subprocess.run(  # noqa: S603 (our own command)
        command,
        cwd=cwd,
        env={name: os.environ[name] for name in names},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def _output(command: list[str], done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode:
        raise InstallationError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
