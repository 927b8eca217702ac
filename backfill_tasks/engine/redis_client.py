"""How Redis is connected to, and how its scripts are called."""

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from backfill_tasks import redis_address
from backfill_tasks.errors import UnreachableError
from backfill_tasks.settings import masked

#: How long a socket may be silent before the kernel gives the connection up. Packets that vanish (a firewall that has
#: forgotten the connection, a host that lost its power) never end it: TCP_USER_TIMEOUT, in ms, is for data on its way,
#: the probes after TCP_KEEPIDLE seconds are for a socket that only listens. Not every system has all four.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}

#: The options of every TCP connection to Redis, the broker's and the cursors'. Times in seconds.
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


def connect(url: str, *, patience: int = 10, timeout: float = 5) -> Redis:
    """A client that rides out a Redis that is away for a moment: `patience` tries with growing waits of up to 5 s.

    Each try takes `timeout` seconds at most.
    """
    # A Unix socket has no far end that can vanish, and no such options.
    sockets = {} if url.startswith("unix:") else SOCKETS
    return Redis(
        **redis_address.parse(url).client_arguments,
        decode_responses=True,
        # An id of a database without an encoding can have bytes that aren't UTF-8 (engine/encoding.py).
        encoding_errors="surrogateescape",
        **{**sockets, "socket_timeout": timeout, "socket_connect_timeout": timeout},
        retry=Retry(ExponentialBackoff(cap=5, base=0.1), patience),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn a failed call into one line that says where and why.

    Raises:
        UnreachableError: Redis did not answer, or refused the login.
    """
    try:
        yield
    except RedisError as error:
        why = _without_secrets(str(error), url)
        raise UnreachableError(f"Redis can't be reached ({masked(url)}): {why}; see REDIS_URL") from None


def _without_secrets(said: str, url: str) -> str:
    """Mask the host in an error's text where it may be a password: see `masked`."""
    host = redis_address.parse(url).host
    return said if host is None or host in masked(url).lower() else said.replace(host, "***")


def new_token() -> str:
    """Return a token for one call of a script.

    A client whose connection broke before the reply came sends the call again, token and all: by the token the script
    knows that it has carried the call out already.
    """
    return secrets.token_hex(8)


def is_wrong_type(error: ResponseError) -> bool:
    """Whether a call failed because a key holds something of another type, alone or in a pipeline."""
    return "WRONGTYPE" in str(error)


def lua(name: str) -> str:
    """The text of one of the engine's Lua scripts."""
    return files("backfill_tasks.engine").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
