"""Connections to Redis, and calls of its scripts.

redis-py is imported on first use: it takes a tenth of the time of a command that only reads the ledger. Other modules
that such a command imports name its errors by way of this one (`except redis_client.RedisError`), which looks them up
only once there is an error.
"""

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from backfill_tasks import redis_address
from backfill_tasks.errors import UnreachableError
from backfill_tasks.settings import masked

if TYPE_CHECKING:
    from redis import Redis
    from redis.exceptions import RedisError, ResponseError

__all__ = [
    "SOCKETS",
    "RedisError",
    "ResponseError",
    "connect",
    "is_wrong_type",
    "lua",
    "new_token",
    "reachable",
]

#: How long a socket may be silent before the kernel closes the connection. A connection whose packets vanish (a
#: firewall that forgot it, a host that lost power) would never end by itself: TCP_USER_TIMEOUT, in ms, covers data in
#: flight, the probes after TCP_KEEPIDLE seconds cover a socket that only listens. Not every system has all four.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}

#: The options of every TCP connection to Redis, for both the broker and the cursors. Times are in seconds.
SOCKETS: Mapping[str, Any] = MappingProxyType(
    {
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "socket_keepalive_options": {
            getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)
        },
    }
)


def __getattr__(name: str) -> Any:
    """Return one of redis-py's errors."""
    if name not in {"RedisError", "ResponseError"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("redis.exceptions"), name)


def connect(url: str, *, patience: int = 10, timeout: float = 5) -> "Redis":
    """Return a client that survives brief outages of Redis: up to `patience` retries, with a backoff of up to 5 s.

    Each attempt takes at most `timeout` seconds.
    """
    import redis  # noqa: PLC0415  see the module
    from redis.backoff import ExponentialBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    # A Unix socket has no remote end that can vanish, and no such options.
    sockets = {} if url.startswith("unix:") else SOCKETS
    return redis.Redis(
        **redis_address.parse(url).client_arguments,
        decode_responses=True,
        # Ids of a database without an encoding can contain bytes that aren't UTF-8 (engine/encoding.py).
        encoding_errors="surrogateescape",
        **{**sockets, "socket_timeout": timeout, "socket_connect_timeout": timeout},
        retry=Retry(ExponentialBackoff(cap=5, base=0.1), patience),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
    )


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn a failed call into a one-line error that says where and why.

    Raises:
        UnreachableError: Redis did not answer, or refused the login.
    """
    from redis import RedisError  # noqa: PLC0415  see the module

    try:
        yield
    except RedisError as error:
        why = _without_secrets(str(error), url)
        raise UnreachableError(f"Redis can't be reached ({masked(url)}): {why}; see REDIS_URL") from None


def _without_secrets(said: str, url: str) -> str:
    """Mask the host in an error's text if it may be a password: see `masked`."""
    host = redis_address.parse(url).host
    return said if host is None or host in masked(url).lower() else said.replace(host, "***")


def new_token() -> str:
    """Return a token for one call of a script, which makes the call idempotent.

    A client that loses the connection before the reply resends the call with the same token; by the token, the script
    recognizes a call it has already executed.
    """
    return secrets.token_hex(8)


def is_wrong_type(error: "ResponseError") -> bool:
    """Return whether a call failed because a key has another type, alone or in a pipeline."""
    return "WRONGTYPE" in str(error)


def lua(name: str) -> str:
    """Return the source of one of the engine's Lua scripts."""
    return files("backfill_tasks.engine").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
