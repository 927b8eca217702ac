"""The HTTP server behind /metrics."""

import base64
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
    """/metrics, for who knows the token or the login, if there is one; there is nothing else."""

    metrics: Callable[[dict[str, Any], Start], Iterable[bytes]]
    token: str | None
    login: str | None

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """A request, as WSGI has it."""
        if environ["PATH_INFO"] != "/metrics":
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"There is only /metrics.\n"]
        if not self._is_open_to(environ.get("HTTP_AUTHORIZATION", "")):
            schemes = [("WWW-Authenticate", 'Basic realm="backfill"')] if self.login else []
            start("401 Unauthorized", [("Content-Type", "text/plain"), *schemes])
            return [b"A token or a login is needed.\n"]
        return self.metrics(environ, start)

    def _is_open_to(self, header: str) -> bool:
        known = []
        if self.token:
            known.append(f"bearer {self.token}")
        if self.login:
            known.append(f"basic {base64.b64encode(self.login.encode()).decode()}")
        scheme, _, secret = header.partition(" ")
        given = f"{scheme.lower()} {secret.strip()}".encode()
        return not known or any(hmac.compare_digest(given, each.encode()) for each in known)


class Silent(WSGIRequestHandler):
    """Prometheus asks every few seconds: nobody wants a line each time. One that says nothing is not waited for."""

    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name in the standard library
        """Say nothing."""


class Server(ThreadingWSGIServer):
    """A server to which a connection that times out or is cut is no event worth a traceback."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Admitted a broken connection unsaid; the standard library's traceback is for anything else."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
