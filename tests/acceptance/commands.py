"""The command on a host database and a Redis, and assertions shared by several tests."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import redis
from harness import UNBOUNDED, Backfill, Terminal

from sandbox.servers import Redis

Follow = Callable[..., Popen[str]]
OpenTerminal = Callable[..., Terminal]


def backfill_against(directory: Path, database_url: str, redis_url: str) -> Backfill:
    """Return the command in its own directory, with the two addresses and no bounds or other settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
    return Backfill(directory, {**inherited, **UNBOUNDED, "DATABASE_URL": database_url, "REDIS_URL": redis_url})


def empty(broker: Redis) -> None:
    """Remove everything from a Redis."""
    with redis.Redis.from_url(broker.url) as client:
        client.flushall()


def redis_contents(backfill: Backfill) -> dict[bytes, bytes]:
    """Return every key in the command's Redis with its value, except bindings, which kombu removes at its own pace."""
    with redis.Redis.from_url(backfill.environment["REDIS_URL"]) as client:
        return {key: client.dump(key) or b"" for key in client.scan_iter() if not key.startswith(b"_kombu.binding")}


def start_of(run: dict[str, Any]) -> datetime:
    """Return a run's start in the host's format: UTC, without a zone."""
    return datetime.fromisoformat(run["started_at"]).replace(tzinfo=None)


def enqueued(run: dict[str, Any]) -> int:
    """Return the number of jobs that a run has enqueued."""
    return sum(run["counts"][name] for name in ("inserted", "requeued", "refreshed"))


def assert_refused(done: CompletedProcess[str], *, status: int = 2) -> None:
    """Assert an exit status, one clear line on standard error, and no other output."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("backfill: ")
    assert done.stdout == ""
    assert done.returncode == status
