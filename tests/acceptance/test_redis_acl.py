"""The Redis user of docs/security.md has all permissions that the tool needs, and no others."""

import asyncio
import re
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from acceptance.commands import backfill_against
from acceptance.exporter import Export
from acceptance.host import Host
from faults.stage import Beat
from harness import Backfill, Flower, Worker, wait_for
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from backfill_tasks import settings
from backfill_tasks.scoring.openai import limits
from sandbox.servers import Redis

PAGE = Path(__file__).parents[2] / "docs/security.md"
PASSWORD = secrets.token_hex(16)

Admin = redis.Redis


def documented() -> list[list[str]]:
    """Return the arguments of the documented ACL commands, with this test's password."""
    commands = re.findall(r"^\$ redis-cli (ACL SETUSER (?:.*\\\n)*.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(each.replace("\\\n", "").replace("PASSWORD", PASSWORD)) for each in commands]


@pytest.fixture
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis for this module alone."""
    with Redis(tmp_path_factory.mktemp("acl")) as started:
        yield started


@pytest.fixture
def admin(guarded: Redis) -> Iterator[Admin]:
    """An administrator's client, on a Redis that has the documented users."""
    with redis.Redis.from_url(guarded.url, decode_responses=True, single_connection_client=True) as client:
        for command in documented():
            client.execute_command(*command)
        if int(str(client.info("server")["redis_version"]).split(".")[0]) < 7:
            # redis-py tries this and works without it. From 7 on, Redis doesn't log an unknown subcommand as denied.
            client.execute_command("ACL", "SETUSER", "backfill", "+client|maint_notifications")
        client.acl_log_reset()
        yield client


@pytest.fixture
def url(admin: Admin, guarded: Redis) -> str:
    """The URL of the Redis as the documented user."""
    return f"redis://backfill:{PASSWORD}@127.0.0.1:{guarded.port}/0"


@pytest.fixture
def confined(url: str, inhabited: Host, tmp_path: Path) -> Backfill:
    """The command as that user, in the environment with the default name."""
    return backfill_against(tmp_path, inhabited.url, url).set(
        BACKFILL_WATCHDOG_SECONDS="1", BACKFILL_STANDING_SECONDS="1"
    )


@pytest.fixture
def fleet(confined: Backfill, admin: Admin) -> Iterator[list[Worker]]:
    """A worker and beat as that user."""
    workers: list[Worker] = []
    beat = Beat.start(confined)
    try:
        workers.append(Worker.start(confined))
        yield workers
    finally:
        beat.stop()
        for worker in workers:
            worker.stop()


def denied(admin: Admin) -> set[tuple[str, str, str]]:
    """Return Redis' denials: the reason, the command, key or channel, and its origin."""
    found: list[dict[str, str]] = admin.acl_log()
    return {(each["reason"], each["object"], each["context"]) for each in found}


def must(command: Backfill, *arguments: str) -> str:
    """Run a command that must succeed, and return its output."""
    done = command(*arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.long
def test_the_user_can_do_everything_the_tool_needs(
    confined: Backfill, fleet: list[Worker], admin: Admin, export: Export, inhabited: Host
) -> None:
    run = confined.json("run", "--apply", "--single-batch", "--limit", "50", status=4)["run_id"]
    must(confined, "rate", "20/m")
    must(confined, "resume", run)
    must(confined, "tune", run, "--limit", "40")
    must(confined, "pause", run)
    must(confined, "status", run)
    assert denied(admin) == set()

    with inhabited.locked('"BackgroundJob"', "ACCESS EXCLUSIVE"):
        must(confined, "resume", run)
        must(confined, "rate", "none")
        inhabited.wait_until_somebody_waits()
        fleet[0].kill()
        must(confined, "status", run)  # the lane has not moved, so status asks Redis why
    # Pretend that the killed worker's messages outlived the visibility time-out: a starting worker restores them.
    assert admin.zrange("unacked_index", 0, -1)
    admin.zadd("unacked_index", dict.fromkeys(admin.zrange("unacked_index", 0, -1), 0), xx=True)
    fleet.append(Worker.start(confined))
    assert confined.json("watch", run)["state"] == "complete"
    assert denied(admin) == set()

    admin.lpush("backfill.v2", "junk")
    admin.set("unacked", "of a wrong type")
    wait_for(lambda: "dead letters" in must(confined, "doctor"), what="the junk to be parked")
    assert "it is not JSON" in must(confined, "dead-letters")
    must(confined, "dead-letters", "--clear")
    must(confined, "verify", run)
    must(confined, "rate")
    assert export(confined).scrape()("backfill_dead_letters") is not None
    assert denied(admin) == set()

    flower = Flower.start(confined)
    flower.wait_for_a_worker()
    flower.stop()
    fleet[1].stop()
    assert denied(admin) == set()


def test_nothing_that_the_limits_of_scoring_do_is_denied(url: str, admin: Admin) -> None:
    async def use() -> None:
        loaded = settings.load({"REDIS_URL": url, "OPENAI_API_KEY": secrets.token_hex(8)})
        async with asyncio.timeout(20), limits.opened(loaded) as shared:
            await shared.take(10)
            await shared.correct(5, hold=0.01)
            await shared.take(10)

    asyncio.run(use())

    assert denied(admin) == set()


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "CONFIG GET requirepass", "CONFIG SET dir /tmp", "KEYS *", "SCAN 0", "DEBUG SLEEP 0",
        "SHUTDOWN", "MONITOR", "ACL LIST", "ACL SETUSER backfill allkeys", "CLIENT LIST", "CLIENT KILL TYPE normal",
        "SAVE", "EVAL script 0", "REPLICAOF NO ONE", "SCRIPT FLUSH", "MODULE LIST", "RANDOMKEY", "SWAPDB 0 1",
        "GET app:session", "SET app:session 1", "RENAME app:session backfill:mine", "LPUSH celery junk",
        "PUBLISH /0.celery.pidbox shutdown", "SUBSCRIBE /0.celery.pidbox", "PSUBSCRIBE *",
    ],
)  # fmt: skip
def test_the_user_can_do_nothing_else(url: str, command: str) -> None:
    with redis.Redis.from_url(url) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


def test_a_lua_script_has_only_the_users_permissions(url: str, admin: Admin) -> None:
    admin.set("app:session", "secret")

    with redis.Redis.from_url(url) as client, pytest.raises(ResponseError):
        client.register_script("return redis.call('GET', ARGV[1])")(args=["app:session"])


def test_login_requires_a_password(url: str, guarded: Redis) -> None:
    with redis.Redis.from_url(guarded.url) as client, pytest.raises(AuthenticationError):
        client.ping()
