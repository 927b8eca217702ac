"""All refusals of a Redis that answers. Each ends with its block and restores Redis."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import redis
from faults.breaking import made_a_replica
from harness import wait_for
from refusing import Refusing


@dataclass(frozen=True)
class Refusal:
    """A refusal, and its text in the refused client's log."""

    play: Callable[["redis.Redis", Refusing], AbstractContextManager[None]]
    text: str
    #: Whether every open connection is refused. While a script runs, some get no answer until it ends.
    is_sure: bool = True

    def seen_in(self, log: str) -> bool:
        return re.search(self.text, log, re.IGNORECASE) is not None


def _set(**values: Any) -> Callable[["redis.Redis", Refusing], AbstractContextManager[None]]:
    """Refuse by configuration."""

    @contextmanager
    def configured(client: "redis.Redis", _: Refusing) -> Iterator[None]:
        names = {name.replace("_", "-"): value for name, value in values.items()}
        before: dict[str, Any] = {name: client.config_get(name)[name] for name in names}  # type: ignore[index]
        for name, value in names.items():
            client.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)

    return configured


def _cut(client: "redis.Redis") -> None:
    """End all connections but this one: a refusal at login reaches only new connections."""
    client.client_kill_filter(_type="normal", skipme=True)
    client.client_kill_filter(_type="pubsub")


def _set_and_cut(**values: Any) -> Callable[["redis.Redis", Refusing], AbstractContextManager[None]]:
    @contextmanager
    def configured(client: "redis.Redis", proxy: Refusing) -> Iterator[None]:
        with _set(**values)(client, proxy):
            _cut(client)
            yield

    return configured


@contextmanager
def _replica(client: "redis.Redis", _: Refusing) -> Iterator[None]:
    with made_a_replica(client):
        yield


@contextmanager
def _replica_without_its_master(client: "redis.Redis", proxy: Refusing) -> Iterator[None]:
    with _set(replica_serve_stale_data="no")(client, proxy), _replica(client, proxy):
        yield


@contextmanager
def _failed_save(client: "redis.Redis", proxy: Refusing) -> Iterator[None]:
    """Make a snapshot fail by removing its folder."""
    folder = Path(mkdtemp())
    with _set(dir=str(folder), save="3600 1000000")(client, proxy):
        folder.rmdir()
        client.bgsave()
        wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", what="the snapshot to fail")  # type: ignore[index]
        yield


@contextmanager
def _busy_script(client: "redis.Redis", proxy: Refusing) -> Iterator[None]:
    """Run an endless script: Redis answers every other client with BUSY."""

    def run() -> None:
        with suppress(redis.RedisError), redis.Redis(port=proxy.target, socket_timeout=None) as other:
            other.eval("while true do end", 0)

    with _set(lua_time_limit=100)(client, proxy):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            client.script_kill()
            thread.join()


def _forbidden(rules: str, undo: str) -> Callable[["redis.Redis", Refusing], AbstractContextManager[None]]:
    @contextmanager
    def forbidden(client: "redis.Redis", _: Refusing) -> Iterator[None]:
        client.execute_command("ACL", "SETUSER", "default", *rules.split())
        try:
            yield
        finally:
            client.execute_command("ACL", "SETUSER", "default", undo)

    return forbidden


def _answer(error: str) -> Callable[["redis.Redis", Refusing], AbstractContextManager[None]]:
    def answering(_: "redis.Redis", proxy: Refusing) -> AbstractContextManager[None]:
        return proxy.refusing(error)

    return answering


REFUSALS: Mapping[str, Refusal] = {
    "out of memory": Refusal(_set(maxmemory=1), "maxmemory"),
    "failed save": Refusal(_failed_save, "persist on disk"),
    "replica": Refusal(_replica, "read.only replica"),
    "replica without its master": Refusal(_replica_without_its_master, "link with master is down|read.only replica"),
    "too few replicas": Refusal(_set(min_replicas_to_write=1), "not enough good replicas"),
    "script that runs for ever": Refusal(_busy_script, "busy", is_sure=False),
    "password changed": Refusal(_set_and_cut(requirepass="another"), "username-password|authentication required"),
    "too many clients": Refusal(_set_and_cut(maxclients=1), "max number of clients"),
    "writes forbidden": Refusal(_forbidden("-@write", "+@all"), "no permissions"),
    "channels forbidden": Refusal(_forbidden("resetchannels", "allchannels"), "no permissions"),
    "all forbidden": Refusal(_forbidden("-@all +acl", "+@all"), "no permissions"),
    "loading": Refusal(_answer("LOADING Redis is loading the dataset in memory"), "loading"),
    "cluster down": Refusal(_answer("CLUSTERDOWN The cluster is down"), "cluster is down"),
    "no password": Refusal(_answer("NOAUTH Authentication required."), "authentication required"),
    "anything": Refusal(_answer("WHATEVER unheard of"), "unheard of"),
}
