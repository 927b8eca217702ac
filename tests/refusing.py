"""A TCP proxy in front of Redis that can answer every command with an error, like a Redis that is loading."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO


@dataclass
class Refusing:
    """Forwards each command to a Redis, or refuses it. Clients must wait for each reply before they send more.

    A blocked connection (BRPOP, SUBSCRIBE) gets the refusal with its next command.
    """

    target: int
    error: str | None = None
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @contextmanager
    def refusing(self, error: str) -> Iterator[None]:
        """Answer all commands with this error while the block runs, and cut open connections, like a restart."""
        self.error = error
        self.cut()
        try:
            yield
        finally:
            self.error = None

    def cut(self) -> None:
        """Close every connection."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _attend(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
            self._open += [client, server]
            threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()
            with client.makefile("rb") as commands:
                while command := _read_command(commands):
                    if self.error is None:
                        server.sendall(command)
                    else:
                        client.sendall(f"-{self.error}\r\n".encode())


def _read_command(commands: BinaryIO) -> bytes:
    """Return the next command in its wire format, `*2 $4 PING …`; empty at the end of the stream."""
    read = commands.readline()
    for _ in range(int(read[1:]) if read else 0):
        size = commands.readline()
        read += size + commands.read(int(size[1:]) + 2)
    return read


def _pass_on(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while answer := server.recv(65_536):
            client.sendall(answer)
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


@contextmanager
def refusing(port: int) -> Iterator[Refusing]:
    """Yield a proxy in front of the Redis on a local port."""
    proxy = Refusing(port)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
