"""Flower's login: the routes that require it, and access without one."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance.commands import backfill_against
from flower.urls import handlers
from harness import Flower
from tornado.web import RequestHandler, URLSpec

from sandbox.servers import Redis

StartFlower = Callable[..., Flower]

#: Routes without a login: style sheets, health check, log-in and log-out, and the page for unknown paths.
OPEN = {"/static/(.*)", "/healthcheck", "/login/?", "/logout", ".*"}

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture(scope="module")
def flower(deserted_broker: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """Flower with a login."""
    started = Flower.start(backfill_against(tmp_path_factory.mktemp("flower"), UNREACHABLE, deserted_broker.url))
    yield started
    started.stop()


@pytest.fixture
def start_flower(deserted_broker: Redis, tmp_path: Path) -> Iterator[StartFlower]:
    """Start instances of Flower that end with the test."""
    started: list[Flower] = []

    def start(*options: str, login: str | None) -> Flower:
        backfill = backfill_against(tmp_path, UNREACHABLE, deserted_broker.url)
        started.append(Flower.start(backfill, *options, login=login))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def requests() -> list[tuple[str, str]]:
    """Return every request that Flower answers, except the open ones: the method, and a path of its route."""
    found = []
    for route in handlers:
        pattern, handler = (
            (route.regex.pattern, route.handler_class) if isinstance(route, URLSpec) else (route[0], route[1])
        )
        path = re.sub(r"\(\.[+*]\)", "anything", pattern.removesuffix("$"))
        answered = [name for name in ("get", "post") if getattr(handler, name) is not getattr(RequestHandler, name)]
        found += [(method.upper(), path) for method in answered if pattern.removesuffix("$") not in OPEN]
    return found


def test_every_page_and_the_whole_api_require_the_login(flower: Flower) -> None:
    asked = requests()

    assert {("GET", "/tasks"), ("GET", "/metrics"), ("POST", "/api/task/rate-limit/anything")} <= set(asked)
    assert {(method, path): flower.get(path, method=method)[0] for method, path in asked} == dict.fromkeys(asked, 401)


@pytest.mark.parametrize("login", ["ops:guess", "ops", ":"])
def test_a_wrong_login_is_refused(flower: Flower, login: str) -> None:
    assert [flower.get(path, login=login) for path in ("/", "/metrics")] == [(401, "Access denied")] * 2
    assert flower.get("/api/workers", login=login)[0] == 401


def test_metrics_are_served_after_login(flower: Flower) -> None:
    status, metrics = flower.get("/metrics", login=flower.login)

    assert status == 200
    assert "# TYPE flower_events_total counter" in metrics


def test_the_health_check_needs_no_login_and_reveals_nothing(flower: Flower) -> None:
    assert flower.get("/healthcheck") == (200, "OK")


def test_without_a_login_the_api_is_closed_and_pages_are_local_only(start_flower: StartFlower) -> None:
    flower = start_flower(login=None)

    assert flower.get("/tasks")[0] == 200
    assert [flower.get(path)[0] for path in ("/api/workers", "/metrics")] == [401, 401]
    with pytest.raises(ConnectionRefusedError):
        connect_from_elsewhere(flower)


def test_with_a_login_other_machines_can_connect(flower: Flower) -> None:
    connect_from_elsewhere(flower)


def test_without_a_login_an_explicit_address_is_reachable(start_flower: StartFlower) -> None:
    connect_from_elsewhere(start_flower("--address=0.0.0.0", login=None))


def test_the_task_columns_are_configurable(start_flower: StartFlower) -> None:
    flower = start_flower("--tasks-columns=name,worker", login="ops:not-secret")

    _, page = flower.get("/tasks", login=flower.login)

    assert re.findall(r'data-column="(\w+)"', page) == ["name", "worker"]


def connect_from_elsewhere(flower: Flower) -> None:
    """Connect to an address of this machine other than 127.0.0.1."""
    socket.create_connection(("127.0.0.2", flower.port), timeout=5).close()
