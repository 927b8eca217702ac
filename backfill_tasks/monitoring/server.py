"""The HTTP server behind /metrics."""

import hmac
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client.exposition import ThreadingWSGIServer

Start = Callable[[str, list[tuple[str, str]]], Any]


@dataclass(frozen=True)
class Door:
    """The WSGI application that serves /metrics and nothing else, protected by a bearer token if one is set."""

    metrics: Callable[[dict[str, Any], Start], Iterable[bytes]]
    token: str | None

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer a WSGI request."""
        if environ["PATH_INFO"] != "/metrics":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"Not found. The metrics are at /metrics.\n"]
        if not self._is_open_to(environ.get("HTTP_AUTHORIZATION", "")):
            start("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")])
            return [b"Unauthorized. Send the token.\n"]
        return self.metrics(environ, start)

    def _is_open_to(self, header: str) -> bool:
        if self.token is None:
            return True
        scheme, _, secret = header.partition(" ")
        return hmac.compare_digest(f"{scheme.lower()} {secret.strip()}".encode(), f"bearer {self.token}".encode())


class Silent(WSGIRequestHandler):
    """A request handler that doesn't log requests and drops a connection that is silent for 10 s.

    Prometheus makes a request every few seconds.
    """

    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name in the standard library
        """Log nothing."""


class Server(ThreadingWSGIServer):
    """A server that ignores connections which time out or break."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a broken connection; print the standard library's traceback for any other error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
