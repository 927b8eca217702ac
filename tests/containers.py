"""The installation that ops would make: a folder with docker-compose.yml and a filled .env, and `docker compose`."""

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

CHECKOUT = Path(__file__).resolve().parent.parent

#: What an installation is made of: what a clone has, without what its owner has in it.
_PARTS = ("backfill_tasks", "cli", "sandbox", "Dockerfile", ".dockerignore", "docker-compose.yml", ".env.example")
_FILES = ("celeryconfig.py", "constraints.txt", "pyproject.toml", "README.md", "LICENSE")

#: The tool's settings in all containers of these tests: a lane that has lost its task is seen within seconds.
SETTINGS: Mapping[str, str] = {"BACKFILL_STANDING_SECONDS": "2", "BACKFILL_WATCHDOG_SECONDS": "1"}


@dataclass(frozen=True)
class Installation:
    """A folder that looks like a clone on a server, with a project name and an image name of its own."""

    folder: Path
    image: str
    flower: str
    login: str

    @classmethod
    def make(cls, folder: Path) -> "Installation":
        """Copy the clone's files, and fill in .env as .env.example says, for the demo's host."""
        for name in (*_PARTS, *_FILES):
            source = CHECKOUT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        name = f"backfill-test-{secrets.token_hex(4)}"
        password = secrets.token_hex(16)
        flower = f"127.0.0.1:{_free_port()}"
        values = {
            "COMPOSE_PROJECT_NAME": name,
            "COMPOSE_PROFILES": "demo",
            "IMAGE": name,
            "DATABASE_URL": f"postgresql://demo:{password}@postgres/demo",
            "POSTGRES_PASSWORD": password,
            "REDIS_PASSWORD": secrets.token_hex(16),
            "FLOWER_BASIC_AUTH": f"ops:{password}",
            "FLOWER_LISTEN": flower,
            **SETTINGS,
        }
        text = "".join(f"{key}={value}\n" for key, value in values.items())
        (folder / ".env").write_text(text, encoding="utf-8")
        return cls(folder, name, flower, values["FLOWER_BASIC_AUTH"])

    def compose(
        self, *arguments: str, status: int | None = 0, timeout: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """`docker compose …` to its end; expect an exit status."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self.folder,
            env=_bare_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert status in {None, done.returncode}, f"exit status {done.returncode}: {done.stderr}{done.stdout}"
        return done

    def cli(self, *arguments: str) -> str:
        """The operator's command, without a terminal; what it printed."""
        return self.compose("run", "--rm", "-T", "cli", *arguments).stdout

    def containers(self) -> list[dict[str, Any]]:
        """What `docker inspect` says of all containers of the services that stay up."""
        ids = self.compose("ps", "--quiet").stdout.split()
        if not ids:
            return []
        found: list[dict[str, Any]] = json.loads(_docker("inspect", *ids))
        return found

    def service(self, name: str) -> list[dict[str, Any]]:
        """What `docker inspect` says of the containers of one service."""
        return [each for each in self.containers() if each["Config"]["Labels"]["com.docker.compose.service"] == name]

    def crash(self, *containers: Mapping[str, Any]) -> None:
        """SIGKILL to the first process of containers, and so to all of each. To the engine these are crashes.

        After a `docker kill` it would not start them again, and from inside, the first process can't be killed: it is
        done in the machine's own process namespace.
        """
        kill = "import os, signal, sys; [os.kill(int(pid), signal.SIGKILL) for pid in sys.argv[1:]]"
        python = ["--pid=host", "--user=0", "--entrypoint=python", self.image, "-c", kill]
        _docker("run", "--rm", *python, *(str(each["State"]["Pid"]) for each in containers))

    def health(self, container: str) -> int:
        """Do the container's health check now; its exit status."""
        ((kind, *command),) = [json.loads(_docker("inspect", "--format={{json .Config.Healthcheck.Test}}", container))]
        shell = ["sh", "-c"] if kind == "CMD-SHELL" else []
        done = subprocess.run(
            ["docker", "exec", container, *shell, *command], capture_output=True, timeout=60, check=False
        )
        return done.returncode

    def signal(self, container: str, name: str) -> None:
        """A signal to a container's first process."""
        _docker("kill", f"--signal={name}", container)

    def remove(self) -> None:
        """Remove its containers, its volumes and its image."""
        self.compose("--profile=*", "down", "--volumes", "--remove-orphans", "--timeout=5", status=None)
        _docker("image", "rm", "--force", self.image)


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _bare_environment() -> dict[str, str]:
    """What Docker needs, and nothing that would count more than the installation's .env."""
    return {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"} or name.startswith("DOCKER_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
