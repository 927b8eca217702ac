"""docker-compose.yml as ops use it: up, scale, a run through the command's service, a crash, down."""

import base64
import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest
from containers import Installation
from harness import wait_for

pytestmark = pytest.mark.docker

OURS = ("worker", "beat", "flower")
STAY_UP = ("redis", *OURS)
ELIGIBLE = 7_156
"""Of the demo's 20,000 leads."""


@pytest.fixture(scope="module")
def up(installation: Installation) -> Iterator[Installation]:
    """The demo, up, with two workers that answer."""
    installation.compose("up", "--detach", "--scale=worker=2")
    wait_for(lambda: online(installation) == 2, what="two workers to answer", seconds=60)
    yield installation
    installation.compose("--profile=*", "down", "--volumes", "--timeout=20")


def online(installation: Installation) -> int:
    """How many workers answer Celery's ping."""
    ping = ["celery", "-A", "backfill_tasks", "inspect", "ping", "--timeout=2", "--json"]
    done = installation.compose("exec", "-T", "beat", *ping, status=None)
    return len(json.loads(done.stdout)) if done.returncode == 0 else 0


def states(installation: Installation) -> dict[str, str]:
    """The health of each container that stays up."""
    return {each["Name"]: each["State"].get("Health", {}).get("Status") for each in installation.containers()}


def run_of(output: str) -> dict[str, Any]:
    """The object that the command printed."""
    found: dict[str, Any] = json.loads(output)
    return found


def flower_answers(installation: Installation, path: str, login: str | None = None) -> int:
    """The status with which Flower answers."""
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    connection = HTTPConnection(installation.flower, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (ConnectionError, HTTPException):
        return 0
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_PASSWORD", "FLOWER_BASIC_AUTH"])
def test_nothing_starts_before_the_secrets_are_set(installation: Installation, name: str) -> None:
    env = (installation.folder / ".env").read_text(encoding="utf-8")
    incomplete = installation.folder / "incomplete.env"
    incomplete.write_text("".join(line for line in env.splitlines(keepends=True) if not line.startswith(f"{name}=")))

    done = installation.compose("--env-file=incomplete.env", "up", "--detach", status=None)

    assert done.returncode != 0
    assert f"required variable {name} is missing a value: set it in .env" in done.stderr


def test_the_operators_command_does_the_whole_run(up: Installation) -> None:
    run = run_of(up.cli("run", "--apply", "--json"))

    assert run["state"] == "complete"
    assert run["counts"]["read"] == ELIGIBLE
    assert "Clean" in up.cli("verify")


def test_a_crash_of_every_service_in_mid_run_is_got_over_without_an_operator(up: Installation) -> None:
    run = run_of(up.cli("run", "--apply", "--detach", "--limit=200", "--page-delay-ms=500", "--json"))["run_id"]
    wait_for(lambda: run_of(up.cli("status", run, "--json"))["pages"] >= 2, what="two pages", seconds=30)
    before = [each for name in STAY_UP for each in up.service(name)]

    up.crash(*before)

    assert run_of(up.cli("watch", run, "--json"))["state"] == "complete"
    assert "Clean" in up.cli("verify", run)
    after = {each["Id"]: each["RestartCount"] for each in up.containers()}
    assert [after[each["Id"]] for each in before] == [1] * len(before)


def test_workers_are_scaled_while_others_work(up: Installation) -> None:
    up.compose("up", "--detach", "--no-recreate", "--scale=worker=3", "worker")

    wait_for(lambda: online(up) == 3, what="three workers to answer")


def test_only_flower_listens_and_only_on_this_machine(up: Installation) -> None:
    ports = [
        (name, binding["HostIp"])
        for name in (*STAY_UP, "postgres")
        for each in up.service(name)
        for bindings in each["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]

    assert ports == [("flower", "127.0.0.1")]


def test_flower_wants_its_login(up: Installation) -> None:
    wait_for(lambda: flower_answers(up, "/healthcheck") == 200, what="Flower to answer")

    assert flower_answers(up, "/workers") == 401
    assert flower_answers(up, "/workers", up.login) == 200


def test_redis_wants_its_password_and_loses_nothing(up: Installation) -> None:
    unknown = up.compose("exec", "-T", "--env=REDISCLI_AUTH=", "redis", "redis-cli", "ping").stdout
    settings = up.compose("exec", "-T", "redis", "redis-cli", "config", "get", "appendonly", "maxmemory-policy").stdout

    assert "NOAUTH" in unknown
    assert sorted(settings.split()) == ["appendonly", "maxmemory-policy", "noeviction", "yes"]


def test_no_secret_is_in_a_command_line(up: Installation) -> None:
    env = (up.folder / ".env").read_text(encoding="utf-8")
    secrets = [value for line in env.splitlines() for name, value in [line.split("=", 1)] if "PASSWORD" in name]

    processes = [up.compose("top", name).stdout for name in STAY_UP]

    assert [secret for secret in secrets for each in processes if secret in each] == []


@pytest.mark.parametrize("service", OURS)
def test_a_container_may_do_no_more_than_it_has_to(up: Installation, service: str) -> None:
    container = up.service(service)[0]
    done = up.compose("exec", "-T", service, "sh", "-c", "id -u; touch /opt/x || touch /tmp/x")

    assert done.stdout == "10001\n"
    assert "Read-only file system" in done.stderr
    assert container["HostConfig"]["CapDrop"] == ["ALL"]
    assert container["HostConfig"]["Memory"] > 0
    assert container["HostConfig"]["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "5"}


def test_a_worker_whose_loop_stands_is_unhealthy(up: Installation) -> None:
    worker = up.service("worker")[0]["Name"].removeprefix("/")
    assert up.health(worker) == 0

    up.signal(worker, "STOP")
    try:
        assert up.health(worker) != 0
    finally:
        up.signal(worker, "CONT")


def test_a_beat_that_stands_is_unhealthy(up: Installation) -> None:
    beat = up.service("beat")[0]["Name"].removeprefix("/")
    wait_for(lambda: up.health(beat) == 0, what="beat to have sent the watchdog")

    up.signal(beat, "STOP")
    try:
        wait_for(lambda: up.health(beat) != 0, what="beat's file to be old")
    finally:
        up.signal(beat, "CONT")


def test_everything_is_healthy(up: Installation) -> None:
    wait_for(lambda: set(states(up).values()) == {"healthy"}, what="all containers to be healthy", seconds=60)
