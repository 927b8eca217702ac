"""A TCP proxy that can cut, slow, freeze and half-open its connections, and lose replies.

Each connection is a pair of pumps on one event loop in its own thread; any thread may call the methods.
Weakness: the proxy's kernel acknowledges every packet, so keepalives never detect a half-open connection here. Only a
client with a deadline of its own passes.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Self, TypeVar

T = TypeVar("T")

_CHUNK = 65_536

#: SO_LINGER that closes with a reset instead of an orderly FIN.
_RESET = struct.pack("ii", 1, 0)


class _Link:
    """A client's connection and its counterpart to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.vanishes = False

    def reset(self) -> None:
        """Reset both connections."""
        for writer in (self.client, self.server):
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Forwards 127.0.0.1:`port` to a server's port. Use it as a context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy of {target}", daemon=True)
        self._listener: asyncio.Server | None = None
        self._open = True
        self._delay: Callable[[], float] | None = None
        self._loses: Callable[[], bool] | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ---- faults

    def cut(self) -> None:
        """Reset every open connection."""
        self._do(self._cut())

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Reset all connections, including new ones, while the block runs."""
        self._open = False
        try:
            self.cut()
            yield
        finally:
            self._open = True

    @contextmanager
    def slow(self, random: Random, *, longest: float = 0.3) -> Iterator[None]:
        """Delay each chunk in both directions by up to `longest` seconds while the block runs."""
        self._delay = lambda: random.uniform(0, longest)
        try:
            yield
        finally:
            self._delay = None

    def half_open(self) -> None:
        """Drop all further bytes of the open connections for good; new connections work."""
        self._do(self._half_open())

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all bytes, on new connections too, while the block runs; deliver them afterwards."""
        self._loop.call_soon_threadsafe(self._flows.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._flows.set)

    @contextmanager
    def losing_replies(self, random: Random, *, share: float = 0.2) -> Iterator[None]:
        """While the block runs, drop some replies of executed commands, and reset the connection instead."""
        self._loses = lambda: random.random() < share
        try:
            yield
        finally:
            self._loses = None

    # ---- forwarding

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._cut()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _cut(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _half_open(self) -> None:
        for link in self._links:
            link.vanishes = True

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if not self._open:
            client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.transport.abort()
            return
        try:
            replies, server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            client.transport.abort()
            return
        link = _Link(client, server)
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._pump(link, reader, server, replies=False)),
            asyncio.ensure_future(self._pump(link, replies, client, replies=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if link.vanishes:
                # Keep both sides open: neither may learn that the other is gone.
                await asyncio.wait(pumps)
        except asyncio.CancelledError:
            return  # the proxy is closing
        finally:
            self._links.discard(link)
            for pump in pumps:
                pump.cancel()
            for writer in (client, server):
                writer.close()

    async def _pump(
        self, link: _Link, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        """Forward bytes in one direction until an end closes or the link is reset."""
        try:
            while chunk := await source.read(_CHUNK):
                if self._delay is not None:
                    await asyncio.sleep(self._delay())
                await self._flows.wait()
                if link.vanishes:
                    continue
                if replies and self._loses is not None and self._loses():
                    link.reset()
                    return
                target.write(chunk)
                await target.drain()
            await self._flows.wait()
        except OSError:
            return
