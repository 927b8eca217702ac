"""Dead letters: messages that no worker can do, kept in Redis with the reason until an operator clears them.

A worker parks such a message in one step with taking it off its own hands. A letter that Redis doesn't accept at that
moment waits in the worker and is parked later. The list is bounded: the newest letters stay, each cut to a bounded
size.

Weakness: a message that Redis has handed out and that the worker can't park before it is killed is gone. Nothing of a
run goes with it: no worker could have done it, and the watchdog seeds a lane whose message is lost.
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

#: How many letters are kept, and how many characters of a message. A page's message has about 1,000 characters.
MOST = 1_000
_MOST_CHARACTERS = 8_192

#: How much of a message a line of the log has room for.
_LOGGED_CHARACTERS = 120


@dataclass(frozen=True)
class DeadLetter:
    """A message that was parked. `message` is cut to a bounded length; `size` is the whole one's, in bytes."""

    at: str
    queue: str
    reason: str
    size: int
    message: str

    @classmethod
    def of(cls, raw: bytes | str, queue: str, reason: str) -> "DeadLetter":
        """Make the letter of a message as Redis has it."""
        data = raw if isinstance(raw, bytes) else raw.encode(errors="surrogatepass")
        text = data[: 4 * _MOST_CHARACTERS].decode(errors="backslashreplace")[:_MOST_CHARACTERS]
        return cls(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", queue, reason, len(data), text)

    @classmethod
    def read(cls, raw: bytes | str) -> "DeadLetter":
        """Read a letter as Redis has it. One that isn't ours is shown as it is."""
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
                return cls.of(raw, "", "this is no letter of ours")

    def __str__(self) -> str:
        return f"{self.reason}; queue={shown(self.queue)} message={shown(self.message, _LOGGED_CHARACTERS)}"


class DeadLetters:
    """The dead letters of an environment (`BACKFILL_QUEUE`), over a client with or without decoding."""

    def __init__(self, redis: Any, queue: str) -> None:
        self._redis = redis
        self.key = f"backfill:dead-letters:{queue}"

    def park(self, letter: DeadLetter, taken: "Taken | None" = None) -> None:
        """Keep a letter, and take its message from those that a worker holds.

        Raises:
            RedisError: Redis didn't accept it; nothing was changed.
        """
        holders = [taken.unacked, taken.index] if taken else [self.key, self.key]
        text = json.dumps(asdict(letter))
        self._redis.register_script(lua("park"))(
            keys=[self.key, *holders], args=[text, MOST, taken.delivery_tag if taken else ""]
        )

    def count(self) -> int:
        """Return how many there are."""
        return int(self._redis.llen(self.key))

    def newest(self, most: int = MOST) -> Sequence[DeadLetter]:
        """Return the newest, the last one first."""
        undecoded = {NEVER_DECODE: True}  # what somebody else wrote there may be no text
        found = self._redis.execute_command("LRANGE", self.key, 0, most - 1, **undecoded)
        return [DeadLetter.read(raw) for raw in found]

    def clear(self) -> None:
        """Remove all."""
        self._redis.delete(self.key)


@dataclass(frozen=True)
class Taken:
    """Where kombu keeps a message that a worker holds: a hash, its index, and the message's delivery tag."""

    unacked: str
    index: str
    delivery_tag: bytes | str


#: Letters that Redis hasn't accepted yet. They belong to the process: a channel ends with its connection.
waiting: deque[tuple[DeadLetter, Taken | None]] = deque(maxlen=MOST)


def flush(letters: DeadLetters) -> None:
    """Park what waits.

    Raises:
        RedisError: Redis doesn't accept it; the rest goes on waiting.
    """
    while waiting:
        letters.park(*waiting[0])
        waiting.popleft()
