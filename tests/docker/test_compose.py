"""docker-compose.yml in operation: up, scale, a run by the command service, a crash of every service, down."""

import base64
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest
from harness import wait_for

from sandbox.installation import Installation, InstallationError, docker

pytestmark = pytest.mark.docker

ALWAYS = ("redis", "worker", "beat", "flower")
COMMAND = "cli"
"""Is built with the others, and not up."""
OURS = ("worker", "beat", "flower", "metrics")
STAY_UP = ("redis", *OURS)
ELIGIBLE = 7_156
"""Of the demo's 20,000 leads."""


@pytest.fixture(scope="module")
def up(installation: Installation) -> Iterator[Installation]:
    """The demo and the exporter, up, with two online workers."""
    installation.compose("up", "--detach", "--scale=worker=2")
    wait_for(lambda: installation.workers_online() == 2, what="two workers to answer")
    yield installation
    installation.compose("--profile=*", "down", "--volumes", "--timeout=1")


def crash(installation: Installation, containers: list[dict[str, Any]]) -> None:
    """End each container by a SIGKILL to its first process.

    After a `docker kill` the engine wouldn't restart them, and the first process can't be killed from inside, so this
    runs in the engine's process namespace.
    """
    kill = "import os, signal, sys; [os.kill(int(pid), signal.SIGKILL) for pid in sys.argv[1:]]"
    python = ["--pid=host", "--user=0", "--entrypoint=python", installation.image, "-c", kill]
    docker("run", "--rm", *python, *(str(each["State"]["Pid"]) for each in containers))


def is_well(container: Mapping[str, Any]) -> bool:
    """Run the container's own health check and return its result."""
    kind, *command = container["Config"]["Healthcheck"]["Test"]
    shell = ["sh", "-c"] if kind == "CMD-SHELL" else []
    check = ["docker", "exec", container["Id"], *shell, *command]
    return subprocess.run(check, capture_output=True, timeout=60, check=False).returncode == 0


@contextmanager
def standing_still(container: Mapping[str, Any]) -> Iterator[None]:
    """Suspend a container's first process while the block runs."""
    docker("kill", "--signal=STOP", container["Id"])
    try:
        yield
    finally:
        docker("kill", "--signal=CONT", container["Id"])


def get(address: str, path: str, authorization: str = "") -> tuple[int, str]:
    """Request a path; return the status, 0 if there is no answer, and the body."""
    connection = HTTPConnection(address, timeout=15)
    try:
        connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (ConnectionError, HTTPException):
        return 0, ""
    finally:
        connection.close()


def flower_answers(installation: Installation, path: str, login: str | None = None) -> int:
    """Return the status of Flower's answer; 0 if there is none."""
    authorization = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
    return get(installation.variables["FLOWER_LISTEN"], path, authorization)[0]


def metrics(installation: Installation, token: str) -> tuple[int, str]:
    """Return the exporter's answer to a client with a token."""
    return get(installation.variables["METRICS_LISTEN"], "/metrics", f"Bearer {token}")


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_PASSWORD", "FLOWER_BASIC_AUTH"])
def test_compose_refuses_to_start_without_every_secret(installation: Installation, name: str) -> None:
    incomplete = "".join(f"{key}={value}\n" for key, value in installation.variables.items() if key != name)
    (installation.folder / "incomplete.env").write_text(incomplete, encoding="utf-8")

    with pytest.raises(InstallationError, match=f"required variable {name} is missing a value: set it in .env"):
        installation.compose("--env-file=incomplete.env", "up", "--detach")


def test_without_the_demo_profile_there_is_no_database(installation: Installation) -> None:
    services = installation.compose("--env-file=.env", "--profile=", "config", "--services")

    assert sorted(services.split()) == sorted([*ALWAYS, COMMAND])


def test_the_command_service_completes_a_run(up: Installation) -> None:
    run = up.json("run", "--apply")

    assert run["state"] == "complete"
    assert run["counts"]["read"] == ELIGIBLE
    assert up.json("verify")["clean"]


def test_the_command_service_writes_a_report(up: Installation) -> None:
    run = up.json("run", "--apply")["run_id"]

    page = up.cli("report", run, "-o", "-")

    assert page.startswith("<!DOCTYPE html>")
    assert run in page
    assert "<svg" in page


def test_only_the_command_image_has_matplotlib(installation: Installation) -> None:
    find = "import importlib.util; print(importlib.util.find_spec('matplotlib') is not None)"

    can_draw = [
        docker("run", "--rm", "--entrypoint=python", image, "-c", find).strip()
        for image in (installation.image, installation.command_image)
    ]

    assert can_draw == ["False", "True"]


def test_a_run_survives_a_crash_of_every_service_without_an_operator(up: Installation) -> None:
    run = up.json("run", "--apply", "--detach", "--limit=200", "--page-delay-ms=500")["run_id"]
    wait_for(lambda: up.json("status", run)["pages"] >= 2, what="two pages")
    before = up.containers(*STAY_UP)

    crash(up, before)

    assert up.json("watch", run)["state"] == "complete"
    assert up.json("verify", run)["clean"]
    restarts = {each["Id"]: each["RestartCount"] for each in up.containers()}
    assert [restarts[each["Id"]] for each in before] == [1] * len(before)


def test_workers_can_be_added_during_a_run(up: Installation) -> None:
    up.compose("up", "--detach", "--no-recreate", "--scale=worker=3", "worker")

    wait_for(lambda: up.workers_online() == 3, what="three workers to answer")


def test_only_flower_and_the_exporter_publish_a_port_on_loopback(up: Installation) -> None:
    ports = [
        (each["Config"]["Labels"]["com.docker.compose.service"], binding["HostIp"])
        for each in up.containers()
        for bindings in each["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]

    assert sorted(ports) == [("flower", "127.0.0.1"), ("metrics", "127.0.0.1")]


def test_flower_requires_its_login(up: Installation) -> None:
    wait_for(lambda: flower_answers(up, "/healthcheck") == 200, what="Flower to answer")

    assert flower_answers(up, "/workers") == 401
    assert flower_answers(up, "/workers", "ops:guessed") == 401
    assert flower_answers(up, "/workers", up.variables["FLOWER_BASIC_AUTH"]) == 200


def test_the_exporter_requires_its_token(up: Installation) -> None:
    token = up.variables["BACKFILL_METRICS_TOKEN"]
    wait_for(lambda: metrics(up, token)[0] == 200, what="the exporter to answer")

    assert metrics(up, "")[0] == 401
    assert metrics(up, "a-token-that-is-guessed")[0] == 401
    assert "\nbackfill_workers " in metrics(up, token)[1]


@pytest.mark.parametrize("token", ["", "too-short"])
def test_the_exporter_refuses_a_missing_or_short_token(up: Installation, token: str) -> None:
    done = up.try_compose("run", "--rm", "-T", "--no-deps", f"--env=BACKFILL_METRICS_TOKEN={token}", "metrics")

    assert done.returncode == 2
    assert "BACKFILL_METRICS_TOKEN" in done.stderr


def test_redis_requires_its_password_and_persists_its_data(up: Installation) -> None:
    unknown = up.compose("exec", "-T", "--env=REDISCLI_AUTH=", "redis", "redis-cli", "ping")
    settings = up.compose("exec", "-T", "redis", "redis-cli", "config", "get", "appendonly", "maxmemory-policy")

    assert "NOAUTH" in unknown
    assert sorted(settings.split()) == ["appendonly", "maxmemory-policy", "noeviction", "yes"]


def test_no_password_appears_in_a_process_list(up: Installation) -> None:
    passwords = [value for name, value in up.variables.items() if "PASSWORD" in name]

    processes = up.compose("top")

    assert "redis-server" in processes
    assert [password for password in passwords if password in processes] == []


def test_flower_does_not_get_the_database_url(up: Installation) -> None:
    (flower,) = up.containers("flower")

    assert not [each for each in flower["Config"]["Env"] if each.startswith(("DATABASE_URL", "POSTGRES"))]


@pytest.mark.parametrize("service", OURS)
def test_containers_run_unprivileged_on_a_read_only_file_system(up: Installation, service: str) -> None:
    container = up.containers(service)[0]
    done = up.try_compose("exec", "-T", service, "sh", "-c", "id -u; touch /opt/x || touch /tmp/x")

    assert done.stdout == "10001\n"
    assert "Read-only file system" in done.stderr
    assert container["HostConfig"]["CapDrop"] == ["ALL"]
    assert container["HostConfig"]["PidsLimit"] == 200


def test_every_service_restarts_limits_memory_and_rotates_logs(up: Installation) -> None:
    found = {each["Config"]["Labels"]["com.docker.compose.service"]: each["HostConfig"] for each in up.containers()}

    assert found.keys() == {"postgres", *STAY_UP}
    assert {each["RestartPolicy"]["Name"] for each in found.values()} == {"unless-stopped"}
    assert [name for name, each in found.items() if not each["Memory"]] == []
    rotated = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}}
    assert [name for name, each in found.items() if each["LogConfig"] != rotated] == []


def test_a_frozen_worker_is_unhealthy(up: Installation) -> None:
    worker = up.containers("worker")[0]
    assert is_well(worker)

    with standing_still(worker):
        assert not is_well(worker)


def test_a_frozen_beat_is_unhealthy(up: Installation) -> None:
    (beat,) = up.containers("beat")
    wait_for(lambda: is_well(beat), what="beat to have sent the watchdog")

    with standing_still(beat):
        wait_for(lambda: not is_well(beat), what="beat's file to be old")


def test_every_container_becomes_healthy(up: Installation) -> None:
    def healths() -> list[str]:
        return [each["State"]["Health"]["Status"] for each in up.containers()]

    wait_for(lambda: set(healths()) == {"healthy"}, what="all containers to be healthy")
