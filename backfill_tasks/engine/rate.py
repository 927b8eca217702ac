"""The fleet's rate: how many pages all workers together start per second. One bucket in Redis, on Redis' clock."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from backfill_tasks import settings
from backfill_tasks.engine import redis_client
from backfill_tasks.engine.redis_client import lua, new_token
from backfill_tasks.errors import UsageError

if TYPE_CHECKING:
    from redis import Redis

_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Rate:
    """A rate in Celery's notation, as written: 20/s, 600/m, 0.5/s, or none."""

    text: str

    @classmethod
    def parse(cls, text: str | None) -> "Rate":
        """Parse a rate; None means no limit.

        Raises:
            UsageError: it is not a rate. 0 is refused: in Celery's notation it means no limit, but its author means a
                halt.
        """
        try:
            settings.rate_interval("none" if text is None else text)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return cls(text or "none")

    @property
    def interval(self) -> float:
        """The seconds between two pages; 0 for no limit."""
        return settings.rate_interval(self.text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Known:
    """A rate as known to a worker.

    `at`: when it was set, in µs on Redis' clock; 0: only in the worker's environment.
    """

    rate: Rate
    at: int = 0


@dataclass(frozen=True)
class Answer:
    """Whether the asking worker gets the slot; if not, `wait` is the number of seconds until it should ask again."""

    granted: bool
    wait: float
    known: Known


class FleetRate:
    """The rate shared by all workers of a queue, and its slots.

    In any second, at most 1.05 times the rate plus one slots are taken, however many workers ask. Tasks get slots in
    the order in which they reached their workers, to within a second, so a worker with a longer way to Redis isn't
    starved. A worker that dies takes no slot with it. If Redis loses the rate, the next worker that asks restores it.
    """

    def __init__(self, redis: "Redis", queue: str) -> None:
        self._redis = redis
        self._key = f"backfill:rate:{queue}"
        self._take_slot = redis.register_script(lua("take_slot"))
        self._set_rate = redis.register_script(lua("set_rate"))

    def read(self) -> Rate | None:
        """Return the current rate; None if Redis has none yet.

        Raises:
            UsageError: Redis has a value that is not a rate.
        """
        try:
            text = cast("str | None", self._redis.hget(self._key, "rate"))
            return None if text is None else Rate.parse(text)
        except (redis_client.ResponseError, UsageError) as error:
            raise UsageError(
                f"what Redis has under {self._key} is not a rate ({error}); set it again: backfill rate none"
            ) from None

    def set(self, rate: Rate) -> Rate | None:
        """Set the rate and return the previous one; None if Redis had none."""
        before = self._set_rate(keys=[self._key], args=[rate.text, _microseconds(rate.interval), new_token()])
        return None if before is None else Rate(before)

    def take(self, worker: str, known: Known, *, waited: float) -> Answer:
        """Ask for a slot for a task that has waited `waited` seconds in this worker.

        A granted slot must be used at once.
        """
        return self._ask(worker, known, round(waited * _MICROSECONDS))

    def learn(self, worker: str, known: Known) -> Known:
        """Return the current rate, for a worker without waiting tasks."""
        return self._ask(worker, known, -1).known

    def _ask(self, worker: str, known: Known, waited: int) -> Answer:
        granted, wait, text, at = self._take_slot(
            keys=[self._key, f"{self._key}:waiting"],
            args=[worker, waited, known.rate.text, _microseconds(known.rate.interval), known.at],
        )
        return Answer(bool(granted), wait / _MICROSECONDS, Known(Rate.parse(text), int(at)))


def initial_rate(config: settings.Settings) -> Rate:
    """Return the rate with which workers start while Redis has none."""
    return Rate.parse(config.rate_limit)


def current_rate(redis: "Redis", config: settings.Settings) -> Rate:
    """Return the fleet's rate, or the initial one if Redis has none yet.

    Raises:
        UsageError: Redis has a value that is not a rate.
    """
    return FleetRate(redis, config.queue).read() or initial_rate(config)


def refuse_aging(rate: Rate, *, pages: int, page_seconds: float, redelivery_seconds: float) -> None:
    """Refuse a rate so low that a message waiting for its slot would be delivered a second time.

    Args:
        rate: the rate.
        pages: the number of messages in flight; each lane has at most one.
        page_seconds: the longest duration of a page.
        redelivery_seconds: after how long Redis redelivers an unacknowledged message.

    Raises:
        UsageError: the text contains the calculation.
    """
    waiting = rate.interval * pages
    if waiting == 0 or waiting + page_seconds <= redelivery_seconds:
        return
    room = redelivery_seconds - page_seconds
    advice = f"set {_per_hour(pages / room)} or more, or" if room > 0 else "set"
    raise UsageError(
        f"{rate} is too low: the last of {pages:,} pages on their way may wait {waiting:,.0f} s and then take"
        f" {page_seconds:,.0f} s, and after {redelivery_seconds:,.0f} s Redis delivers it a second time:"
        f" {advice} a higher BACKFILL_VISIBILITY_TIMEOUT"
    )


def _per_hour(per_second: float) -> str:
    """Return a rate that is no lower, in the notation of `Rate.parse`."""
    hundredths = int(per_second * 360_000) + 1
    return f"{hundredths / 100:.2f}/h"


def _microseconds(seconds: float) -> str:
    return repr(seconds * _MICROSECONDS)
