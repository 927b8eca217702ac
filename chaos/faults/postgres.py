"""Faults of the PostgreSQL server."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

import psycopg

from chaos.fleet import Fleet
from chaos.guard import CONTINUE, guarded
from chaos.process import descendants, send

_TERMINATE = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
_CHUNK = 4 << 20


def _superuser(fleet: Fleet) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(fleet.host_url, autocommit=True, connect_timeout=5)


@contextmanager
def _terminated(fleet: Fleet, _: Random) -> Iterator[None]:
    with _superuser(fleet) as connection:
        connection.execute(_TERMINATE)
    yield


@contextmanager
def _fast_restart(fleet: Fleet, _: Random) -> Iterator[None]:
    # `stop_signal` is a fast shutdown: it waits for no session.
    fleet.postgres.shut_down()
    yield
    fleet.postgres.start()


@contextmanager
def _immediate_restart(fleet: Fleet, _: Random) -> Iterator[None]:
    fleet.postgres.kill()
    yield
    fleet.postgres.start()


@contextmanager
def _stopped(fleet: Fleet, _: Random) -> Iterator[None]:
    postmaster = fleet.postgres.pid
    pids = [postmaster, *descendants(postmaster)]
    # If the campaign ends, the postmaster is killed; its stopped children notice that only once they continue.
    with guarded(CONTINUE, *pids):
        send(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            send(pids, signal.SIGCONT)


@contextmanager
def _read_only(fleet: Fleet, _: Random) -> Iterator[None]:
    with _superuser(fleet) as connection:
        connection.execute(b"ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute(b"SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute(b"ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute(b"SELECT pg_reload_conf()")


@contextmanager
def _out_of_connections(fleet: Fleet, _: Random) -> Iterator[None]:
    """Occupy all connections that aren't reserved for superusers, including those that the fleet loses."""
    over = threading.Event()
    hogs: list[psycopg.Connection[tuple[object, ...]]] = []

    def hog() -> None:
        while not over.is_set():
            try:
                hogs.append(psycopg.connect(_hog_url(fleet), autocommit=True, connect_timeout=3))
            except psycopg.OperationalError:
                over.wait(0.05)

    with _superuser(fleet) as connection:
        with suppress(psycopg.errors.DuplicateObject):
            connection.execute(b"CREATE ROLE hog LOGIN PASSWORD 'hog'")
        thread = threading.Thread(target=hog, name="hog")
        thread.start()
        try:
            connection.execute(_TERMINATE)
            yield
        finally:
            over.set()
            thread.join()
            for each in hogs:
                each.close()


def _hog_url(fleet: Fleet) -> str:
    return f"postgresql://hog:hog@127.0.0.1:{fleet.postgres.port}/postgres"


@contextmanager
def _disk_full(fleet: Fleet, random: Random) -> Iterator[None]:
    """Fill the file system of the tables. Space that PostgreSQL has already allocated stays usable."""
    if fleet.small_disk is None:
        raise RuntimeError("a schedule without a small disk can't have this fault")
    ballast = fleet.small_disk / f"ballast-{random.getrandbits(32)}"
    try:
        # Write down to the last byte that fits, so that no table can grow even by one page.
        with ballast.open("wb", buffering=0) as file:
            size = _CHUNK
            while size:
                try:
                    written = file.write(bytes(size))
                except OSError:
                    written = 0
                if not written or written < size:
                    size //= 2
        yield
    finally:
        ballast.unlink(missing_ok=True)


PLAYERS = {
    "postgres: sessions terminated": _terminated,
    "postgres: fast restart": _fast_restart,
    "postgres: immediate restart": _immediate_restart,
    "postgres: stopped": _stopped,
    "postgres: read-only": _read_only,
    "postgres: out of connections": _out_of_connections,
    "postgres: disk full": _disk_full,
}
