"""Dead letters: messages that no worker can process, kept in Redis with the reason until an operator clears them.

A worker parks such a message and removes it from its unacknowledged ones in one atomic step. If Redis doesn't accept
the letter, it waits in the worker and is parked later. The list is bounded: the newest letters stay, each cut to a
bounded size.

Weakness: a message is lost if Redis has handed it out and the worker is killed before it can park it. No run loses work
by that: no worker could have processed the message, and the watchdog reseeds a lane whose message is lost.
"""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from redis.client import NEVER_DECODE

from backfill_tasks.engine.redis_client import lua
from backfill_tasks.escaping import shown

#: How many letters are kept, and how many characters of each message. A page's message has about 1,000 characters.
MOST = 1_000
_MOST_CHARACTERS = 8_192

#: How many characters of a message a log line shows.
_LOGGED_CHARACTERS = 120


@dataclass(frozen=True)
class DeadLetter:
    """A parked message. `message` is cut to a bounded length; `size` is the size of the whole message, in bytes."""

    at: str
    queue: str
    reason: str
    size: int
    message: str

    @classmethod
    def of(cls, raw: bytes | str, queue: str, reason: str) -> "DeadLetter":
        """Return the letter for a raw message from Redis."""
        data = raw if isinstance(raw, bytes) else raw.encode(errors="surrogatepass")
        text = data[: 4 * _MOST_CHARACTERS].decode(errors="backslashreplace")[:_MOST_CHARACTERS]
        return cls(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", queue, reason, len(data), text)

    @classmethod
    def read(cls, raw: bytes | str) -> "DeadLetter":
        """Parse a letter from Redis. An entry that isn't a letter is returned as one, with its text as the message."""
        try:
            values = json.loads(raw)
        except (ValueError, RecursionError):
            values = None
        match values:
            case {
                "at": str(at),
                "queue": str(queue),
                "reason": str(reason),
                "size": int(size),
                "message": str(message),
            }:
                return cls(at, queue, reason, size, message)
            case _:
                return cls.of(raw, "", "this entry is not a dead letter")

    def __str__(self) -> str:
        return f"{self.reason}; queue={shown(self.queue)} message={shown(self.message, _LOGGED_CHARACTERS)}"


class DeadLetters:
    """The dead letters of an environment (`BACKFILL_QUEUE`). The client may decode responses or not."""

    def __init__(self, redis: Any, queue: str) -> None:
        self._redis = redis
        self.key = f"backfill:dead-letters:{queue}"

    def park(self, letter: DeadLetter, taken: "Taken | None" = None) -> None:
        """Store a letter, and remove its message from the unacknowledged ones.

        Raises:
            RedisError: Redis didn't accept it; nothing was changed.
        """
        places = [taken.unacked, taken.index] if taken else [self.key, self.key]
        text = json.dumps(asdict(letter))
        self._redis.register_script(lua("park"))(
            keys=[self.key, *places], args=[text, MOST, taken.delivery_tag if taken else ""]
        )

    def count(self) -> int:
        """Return the number of dead letters."""
        return int(self._redis.llen(self.key))

    def newest(self, most: int = MOST) -> Sequence[DeadLetter]:
        """Return the newest letters, newest first."""
        undecoded = {NEVER_DECODE: True}  # a foreign entry may not be valid text
        found = self._redis.execute_command("LRANGE", self.key, 0, most - 1, **undecoded)
        return [DeadLetter.read(raw) for raw in found]

    def clear(self) -> None:
        """Delete all dead letters."""
        self._redis.delete(self.key)


@dataclass(frozen=True)
class Taken:
    """Where kombu keeps an unacknowledged message: a hash, its index, and the message's delivery tag."""

    unacked: str
    index: str
    delivery_tag: bytes | str


#: Letters that Redis hasn't accepted yet. They belong to the process, because a channel ends with its connection.
waiting: deque[tuple[DeadLetter, Taken | None]] = deque(maxlen=MOST)


def flush(letters: DeadLetters) -> None:
    """Park the waiting letters.

    Raises:
        RedisError: Redis doesn't accept one; it and the rest keep waiting.
    """
    while waiting:
        letters.park(*waiting[0])
        waiting.popleft()
