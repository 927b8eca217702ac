"""A simulated network: a proxy that forwards every byte after a fixed delay.

It delays but doesn't throttle: bytes sent while earlier ones wait are not delayed any longer. It runs in a process of
its own, so that clients don't slow it down, and in threads, which wake up to the tenth of a millisecond; an event loop
rounds its waits up to whole milliseconds.
"""

import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from urllib.parse import urlsplit

import psycopg

_CHUNK = 1 << 18
_ROUND_TRIPS = 200


@contextmanager
def delayed(url: str, milliseconds: float) -> Iterator[str]:
    """Yield a URL at which the server of `url` is `milliseconds` away each way. The proxy ends with the block."""
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    arguments = [parts.hostname or "127.0.0.1", str(parts.port or 5432), str(milliseconds)]
    with subprocess.Popen(  # noqa: S603 (our own command)
        [sys.executable, "-m", "benchmarks.latency", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as proxy:
        port = int(proxy.stdout.readline()) if proxy.stdout else 0
        try:
            yield parts._replace(netloc=f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}").geturl()
        finally:
            # The proxy ends when its standard input does, and so even when this process is killed.
            proxy.communicate()


def round_trip(url: str) -> float:
    """Return the median round trip to the server, in milliseconds."""
    with psycopg.connect(url, autocommit=True) as connection:
        return 1000 * statistics.median(_ask(connection) for _ in range(_ROUND_TRIPS))


def _ask(connection: "psycopg.Connection[tuple[object, ...]]") -> float:
    began = time.perf_counter()
    connection.execute("SELECT 1")
    return time.perf_counter() - began


def _serve(server: tuple[str, int], seconds: float) -> None:
    """Accept connections until standard input ends; nothing outlives this process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        _in_thread(_accept, listening, server, seconds)
        print(listening.getsockname()[1], flush=True)  # noqa: T201 (tells the parent)
        sys.stdin.read()


def _accept(listening: socket.socket, server: tuple[str, int], seconds: float) -> None:
    while True:
        client, _ = listening.accept()
        back = socket.create_connection(server)
        for one, other in ((client, back), (back, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            waiting: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            _in_thread(_take_in, one, waiting, seconds)
            _in_thread(_hand_on, other, waiting)


def _take_in(source: socket.socket, waiting: "SimpleQueue[tuple[float, bytes]]", seconds: float) -> None:
    """Record when each chunk is due. An empty chunk marks the end, orderly or not."""
    chunk = b"-"
    while chunk:
        try:
            chunk = source.recv(_CHUNK)
        except OSError:
            chunk = b""
        waiting.put((time.monotonic() + seconds, chunk))


def _hand_on(target: socket.socket, waiting: "SimpleQueue[tuple[float, bytes]]") -> None:
    with suppress(OSError):
        while True:
            due, chunk = waiting.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not chunk:
                break
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def _in_thread(function: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


if __name__ == "__main__":
    _serve((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]) / 1000)
