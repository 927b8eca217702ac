"""The live cursors in Redis: one hash per lane, moved by compare-and-set, and rebuilt from the ledger if lost."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, cast

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.encoding import to_bytes
from backfill_tasks.engine.model import Lane, PageMessage, RunId
from backfill_tasks.engine.redis_client import is_wrong_type, lua, new_token

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script

#: How long Redis has to answer while the caller holds a lane's row lock, in seconds. It normally answers within a
#: millisecond; other transactions that need the lock (a duplicate, the watchdog, a resume) wait for Redis, too.
_LOCKED_SECONDS = 0.25

#: How long an answer shows that Redis can be reached, in seconds. Pages follow each other far more quickly, and asking
#: before each one would cost a round trip.
_RECENT_SECONDS = 1.0

#: A cursor that hasn't been touched for this long expires; the ledger still has it.
_KEEP_SECONDS = 90 * 86_400


@dataclass(frozen=True)
class LiveCursor:
    """A lane's position in Redis: `page` is the last committed page, `sent` the last whose task was sent."""

    generation: int
    page: int
    cursor: str | None
    sent: int


class LiveCursors:
    """The live cursors of all lanes. Every change is atomic, and an older generation never overwrites a newer one.

    A call that is resent because its reply was lost changes nothing more. An unexpected value under a lane's key is
    overwritten: the ledger has the lane's position.

    `redis` returns a client that retries while Redis is briefly unreachable. `prompt` returns the client for calls
    under a lane's row lock: it asks once, without retries. Each is called once, on first use.
    """

    def __init__(self, redis: Callable[[], "Redis"], prompt: Callable[[], "Redis"]) -> None:
        self._connect = redis
        self._connect_prompt = prompt
        self._answered_at = -inf

    @classmethod
    def connect(cls, url: str, *, patience: int = 10) -> "LiveCursors":
        """Return cursors that connect on first use. `patience`: the number of retries of a call, with backoff."""
        prompt = partial(redis_client.connect, url, patience=0, timeout=_LOCKED_SECONDS)
        return cls(partial(redis_client.connect, url, patience=patience), prompt)

    @cached_property
    def _redis(self) -> "Redis":
        return self._connect()

    @cached_property
    def _place(self) -> "Script":
        return self._redis.register_script(lua("place"))

    @cached_property
    def _begin(self) -> "Script":
        return self._connect_prompt().register_script(lua("begin"))

    @cached_property
    def _reset_attempts(self) -> "Script":
        return self._redis.register_script(lua("reset_attempts"))

    @cached_property
    def _advance(self) -> "Script":
        return self._redis.register_script(lua("advance"))

    @cached_property
    def _claim(self) -> "Script":
        return self._redis.register_script(lua("claim"))

    def place(self, run: RunId, lane: Lane) -> None:
        """Set a lane's cursor to the ledger's position: the chain of the lane's generation starts there.

        The crash counter is kept: otherwise a poison page would survive forever by being reseeded.
        """
        self._place(
            keys=[_key(run, lane.number)],
            args=[lane.generation, lane.page, to_bytes(lane.cursor or ""), lane.page + 1, _KEEP_SECONDS],
        )

    def wait_for_answer(self) -> None:
        """Return if Redis answered within the last second, or once it answers. Call this before locking a lane's row.

        Raises:
            RedisError: Redis doesn't answer.
        """
        if monotonic() - self._answered_at > _RECENT_SECONDS:
            self._redis.ping()
            self._answered_at = monotonic()

    def begin(self, message: PageMessage) -> int:
        """Increment and return the number of times this page has started without finishing.

        The caller must hold the lane's row lock. Only the lock tells a starting page from a duplicate that waits for
        it: counted before the lock, several deliveries of one page would add up, and a harmless page would look like a
        poison message. To keep the lock short, Redis is asked once, with a quarter of a second for each answer.

        Raises:
            RedisError: Redis didn't answer in time, or refused. It may have counted the start, or may still do so: call
                `reset_attempts` once the lock is released.
        """
        try:
            return int(self._begin(keys=[_key_of(message)], args=[message.page, _KEEP_SECONDS]))
        except redis_client.RedisError:
            self._answered_at = -inf
            raise

    def reset_attempts(self, message: PageMessage) -> None:
        """Reset the crash counter: the page failed, but its worker survived."""
        self._reset_attempts(keys=[_key_of(message)], args=[_KEEP_SECONDS])

    def advance(self, message: PageMessage, cursor: str, *, sent: int) -> bool:
        """Move the lane's cursor past a committed page, and record the last page that was sent.

        Return False if a newer chain or a later page was first.
        """
        moved = self._advance(
            keys=[_key_of(message)],
            args=[message.generation, message.page, to_bytes(cursor), sent, _KEEP_SECONDS, new_token()],
        )
        self._answered_at = monotonic()
        return bool(moved)

    def claim(self, message: PageMessage) -> bool:
        """Claim the right to send a page; return False if it was sent or claimed, or a newer chain has the lane."""
        claimed = self._claim(
            keys=[_key_of(message)], args=[message.generation, message.page, _KEEP_SECONDS, new_token()]
        )
        return bool(claimed)

    def read(self, run: RunId, lane: int) -> LiveCursor | None:
        """Return a lane's position; None if Redis has lost it or has an unexpected value under its key."""
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
        except redis_client.ResponseError as error:
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
