"""The live cursors in Redis: one hash a lane, moved by compare-and-set. The ledger is what they are rebuilt from."""

from dataclasses import dataclass
from typing import cast

from redis import Redis
from redis.exceptions import ResponseError

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.encoding import to_bytes
from backfill_tasks.engine.model import Lane, PageMessage, RunId
from backfill_tasks.engine.redis_client import is_wrong_type, lua, new_token

#: How long Redis has to answer while the caller holds a lane's row lock, in seconds. It answers in less than a
#: millisecond; what waits for the lock (a duplicate, the watchdog, a resume) waits for Redis too.
_LOCKED_SECONDS = 0.25

#: A cursor that nobody has moved for so long is dropped; the ledger still has it.
_KEEP_SECONDS = 90 * 86_400


@dataclass(frozen=True)
class LiveCursor:
    """A lane's place as Redis has it: `page` is the last that was committed, `sent` the last whose task was sent."""

    generation: int
    page: int
    cursor: str | None
    sent: int


class LiveCursors:
    """Every lane's live cursor. All changes are atomic, and none lets an older generation win over a newer.

    A call that is sent again because its reply was lost changes nothing more. What is no cursor under a lane's key is
    overwritten: the ledger has the lane's place.

    `redis` rides out a Redis that is away for a moment. `prompt` is the client for calls under a lane's row lock: it
    asks once and doesn't wait.
    """

    def __init__(self, redis: Redis, prompt: Redis) -> None:
        self._redis = redis
        self._place = redis.register_script(lua("place"))
        self._begin = prompt.register_script(lua("begin"))
        self._reset_attempts = redis.register_script(lua("reset_attempts"))
        self._advance = redis.register_script(lua("advance"))
        self._claim = redis.register_script(lua("claim"))

    @classmethod
    def connect(cls, url: str, *, patience: int = 10) -> "LiveCursors":
        """Connect when first used. `patience`: how often a call is tried, with growing waits."""
        prompt = redis_client.connect(url, patience=0, timeout=_LOCKED_SECONDS)
        return cls(redis_client.connect(url, patience=patience), prompt)

    def place(self, run: RunId, lane: Lane) -> None:
        """Put a lane's cursor where the ledger has it: a new chain of the lane's generation begins there.

        How often its page has ended a worker stays counted: a page that ends each worker that takes it must not live
        for ever by being seeded again.
        """
        self._place(
            keys=[_key(run, lane.number)],
            args=[lane.generation, lane.page, to_bytes(lane.cursor or ""), lane.page + 1, _KEEP_SECONDS],
        )

    def wait_for_answer(self) -> None:
        """Return once Redis answers, riding out a moment without one. To be called before a lane's row is locked.

        Raises:
            RedisError: Redis doesn't answer.
        """
        self._redis.ping()

    def begin(self, message: PageMessage) -> int:
        """Increment and return the number of times this page has started without finishing.

        The caller must hold the lane's row lock. Only the lock tells a page that starts from a duplicate that waits
        for it: counted before the lock, several deliveries of one page would count each other, and a page that ended
        no worker would pass for a poison message. So that the lock isn't held for long, Redis is asked once and has a
        quarter of a second for each answer.

        Raises:
            RedisError: Redis didn't answer in time, or refused. It may have counted all the same, or may do so when it
                comes back: call `reset_attempts` once the lock is released.
        """
        return int(self._begin(keys=[_key_of(message)], args=[message.page, _KEEP_SECONDS]))

    def reset_attempts(self, message: PageMessage) -> None:
        """Reset the crash counter: the page failed, but its worker survived."""
        self._reset_attempts(keys=[_key_of(message)], args=[_KEEP_SECONDS])

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
