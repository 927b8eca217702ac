"""The live cursors in Redis: one hash a lane, moved by compare-and-set. The ledger is what they are rebuilt from."""

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, cast

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from backfill_tasks import redis_address
from backfill_tasks.engine.encoding import to_bytes
from backfill_tasks.engine.model import Lane, PageMessage, RunId
from backfill_tasks.errors import UnreachableError
from backfill_tasks.settings import masked

#: A cursor that nobody has moved for so long is dropped; the ledger still has it.
_KEEP_SECONDS = 90 * 86_400

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


@dataclass(frozen=True)
class LiveCursor:
    """A lane's place as Redis has it: `page` is the last that was committed, `sent` the last whose task was sent."""

    generation: int
    page: int
    cursor: str | None
    sent: int


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


class LiveCursors:
    """Every lane's live cursor. All changes are atomic, and none lets an older generation win over a newer.

    A call that is sent again because its reply was lost changes nothing more. What is no cursor under a lane's key is
    overwritten: the ledger has the lane's place.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._place = redis.register_script(lua("place"))
        self._begin = redis.register_script(lua("begin"))
        self._forgive = redis.register_script(lua("forgive"))
        self._advance = redis.register_script(lua("advance"))
        self._claim = redis.register_script(lua("claim"))

    def place(self, run: RunId, lane: Lane) -> None:
        """Put a lane's cursor where the ledger has it: a new chain of the lane's generation begins there.

        How often its page has ended a worker stays counted: a page that ends each worker that takes it must not live
        for ever by being seeded again.
        """
        self._place(
            keys=[_key(run, lane.number)],
            args=[lane.generation, lane.page, to_bytes(lane.cursor or ""), lane.page + 1, _KEEP_SECONDS],
        )

    def begin(self, message: PageMessage) -> int:
        """How often this page has begun without an end, this time included. Only for who holds the lane in the ledger.

        One process at a time does, so what has begun and not ended has ended its process.
        """
        return int(self._begin(keys=[_key_of(message)], args=[message.page, _KEEP_SECONDS, new_token()]))

    def forgive(self, message: PageMessage) -> None:
        """The page came to an orderly end, though not a good one: it did not kill its worker."""
        self._forgive(keys=[_key_of(message)], args=[_KEEP_SECONDS])

    def advance(self, message: PageMessage, cursor: str, *, sent: int) -> bool:
        """Move the lane's cursor past a committed page, and note the page that was sent last.

        False if another chain or a later page was there first.
        """
        moved = self._advance(
            keys=[_key_of(message)],
            args=[message.generation, message.page, to_bytes(cursor), sent, _KEEP_SECONDS, new_token()],
        )
        return bool(moved)

    def claim(self, message: PageMessage) -> bool:
        """Claim the right to send a page that should have been sent; False if it was, or another has the right."""
        claimed = self._claim(
            keys=[_key_of(message)], args=[message.generation, message.page, _KEEP_SECONDS, new_token()]
        )
        return bool(claimed)

    def read(self, run: RunId, lane: int) -> LiveCursor | None:
        """A lane's place, or None where Redis has lost it, or has something there that is none."""
        try:
            values = cast("dict[str, str]", self._redis.hgetall(_key(run, lane)))
            return LiveCursor(
                generation=int(values["generation"]),
                page=int(values["page"]),
                cursor=values["cursor"] or None,
                sent=int(values.get("sent", 0)),
            )
        except (KeyError, ValueError):
            return None
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            return None

    def forget(self, run: RunId, lanes: int) -> None:
        """Remove the cursors of a run that has ended."""
        if lanes:
            self._redis.delete(*(_key(run, lane) for lane in range(1, lanes + 1)))


def _key(run: RunId, lane: int) -> str:
    return f"backfill:cursor:{run}:{lane}"


def _key_of(message: PageMessage) -> str:
    return _key(message.run, message.lane)


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
