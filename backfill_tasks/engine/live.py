"""The live cursors in Redis: one hash a lane, moved by compare-and-set. The ledger is what they are rebuilt from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, cast

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from backfill_tasks.engine.model import Lane, PageMessage, RunId
from backfill_tasks.errors import UnreachableError
from backfill_tasks.settings import masked

#: A cursor that nobody has moved for so long is dropped; the ledger still has it.
_KEEP_SECONDS = 90 * 86_400


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
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
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
        raise UnreachableError(f"Redis can't be reached ({masked(url)}): {error}; see REDIS_URL") from None


class LiveCursors:
    """Every lane's live cursor. All changes are atomic, and none lets an older generation win over a newer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._begin = redis.register_script(lua("begin"))
        self._advance = redis.register_script(lua("advance"))
        self._claim = redis.register_script(lua("claim"))

    def place(self, run: RunId, lane: Lane) -> None:
        """Put a lane's cursor where the ledger has it: a new chain of the lane's generation begins there.

        How often its page has ended a worker stays counted: a page that ends each worker that takes it must not live
        for ever by being seeded again.
        """
        key = _key(run, lane.number)
        values = {
            "generation": lane.generation,
            "page": lane.page,
            "cursor": lane.cursor or "",
            "sent": lane.page + 1,
        }
        with self._redis.pipeline() as pipeline:
            pipeline.hset(key, mapping=cast("Any", values))
            pipeline.expire(key, _KEEP_SECONDS)
            pipeline.execute()

    def begin(self, message: PageMessage) -> int:
        """How often this page has begun without an end, this time included. Only for who holds the lane in the ledger.

        One process at a time does, so what has begun and not ended has ended its process.
        """
        return int(self._begin(keys=[_key(message.run, message.lane)], args=[message.page, _KEEP_SECONDS]))

    def forgive(self, message: PageMessage) -> None:
        """The page came to an orderly end, though not a good one: it did not kill its worker."""
        key = _key(message.run, message.lane)
        with self._redis.pipeline() as pipeline:
            pipeline.hset(key, "attempts", 0)
            pipeline.expire(key, _KEEP_SECONDS)
            pipeline.execute()

    def advance(self, message: PageMessage, cursor: str, *, sent: int) -> bool:
        """Move the lane's cursor past a committed page, and note the page that was sent last.

        False if another chain or a later page was there first.
        """
        key = _key(message.run, message.lane)
        return bool(self._advance(keys=[key], args=[message.generation, message.page, cursor, sent, _KEEP_SECONDS]))

    def claim(self, message: PageMessage) -> bool:
        """Claim the right to send a page that should have been sent; False if it was, or another has the right."""
        key = _key(message.run, message.lane)
        return bool(self._claim(keys=[key], args=[message.generation, message.page, _KEEP_SECONDS]))

    def read(self, run: RunId, lane: int) -> LiveCursor | None:
        """A lane's place, or None where Redis has lost it."""
        values = cast("dict[str, str]", self._redis.hgetall(_key(run, lane)))
        if "cursor" not in values:
            return None
        return LiveCursor(
            generation=int(values["generation"]),
            page=int(values["page"]),
            cursor=values["cursor"] or None,
            sent=int(values.get("sent", 0)),
        )

    def forget(self, run: RunId, lanes: int) -> None:
        """Remove the cursors of a run that has ended."""
        if lanes:
            self._redis.delete(*(_key(run, lane) for lane in range(1, lanes + 1)))


def _key(run: RunId, lane: int) -> str:
    return f"backfill:cursor:{run}:{lane}"


def lua(name: str) -> str:
    """The text of one of the engine's Lua scripts."""
    return files("backfill_tasks.engine").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
