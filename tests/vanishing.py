"""A TCP proxy that can silence its open connections: the sockets stay open, but no bytes pass."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Vanishing:
    """Forwards to one address. `vanish` silences the open connections; new ones work."""

    target: tuple[str, int]
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _open: list["_Link"] = field(default_factory=list)
    #: While set, new connections are accepted and silenced too.
    dead: bool = False

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def vanish(self) -> int:
        """Silence all open connections and return how many there are."""
        silenced = [link for link in self._open if not link.silent]
        for link in silenced:
            link.silent = True
        return len(silenced)

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            link = _Link(client, server, silent=self.dead)
            self._open.append(link)
            link.start()

    def close(self) -> None:
        self.listener.close()
        for link in self._open:
            link.close()


@dataclass
class _Link:
    client: socket.socket
    server: socket.socket
    silent: bool

    def start(self) -> None:
        for source, sink in ((self.client, self.server), (self.server, self.client)):
            threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not self.silent:
                    sink.sendall(data)
        if not self.silent:
            self.close()

    def close(self) -> None:
        for each in (self.client, self.server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def vanishing(url: str) -> Iterator[tuple[Vanishing, str]]:
    """Yield a proxy in front of a server, and the server's URL through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Vanishing((parts.hostname, parts.port))
    threading.Thread(target=proxy.serve, daemon=True).start()
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    try:
        yield proxy, parts._replace(netloc=f"{login}127.0.0.1:{proxy.port}").geturl()
    finally:
        proxy.close()
