"""The fleet's rate: how many pages all workers together start in a second. One bucket in Redis, by Redis' clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from redis import Redis
from redis.exceptions import ResponseError

from backfill_tasks import settings
from backfill_tasks.engine.redis_client import lua, new_token
from backfill_tasks.errors import UsageError

_SECONDS: Mapping[str, int] = MappingProxyType({"s": 1, "m": 60, "h": 3600})
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Rate:
    """A rate in Celery's notation, as it was written: 20/s, 600/m, 0.5/s, or none."""

    text: str

    @classmethod
    def parse(cls, text: str | None) -> "Rate":
        """Read a rate; None is none.

        Raises:
            UsageError: it is not one. Nor is 0: in Celery's notation it means no limit, and who writes it means a halt.
        """
        try:
            return cls(settings.rate_limit("none" if text is None else text) or "none")
        except ValueError as error:
            raise UsageError(str(error)) from None

    @property
    def interval(self) -> float:
        """Seconds from one page to the next; 0 where there is no limit."""
        if self.text == "none":
            return 0.0
        count, _, unit = self.text.partition("/")
        return _SECONDS[unit or "s"] / float(count)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Known:
    """A rate as a worker knows it, and when it was set, in µs by Redis' clock; 0: by the worker's environment only."""

    rate: Rate
    at: int = 0


@dataclass(frozen=True)
class Answer:
    """Whether the slot is the asking worker's, and if not, in how many seconds it should ask again."""

    granted: bool
    wait: float
    known: Known


class FleetRate:
    """The rate of all workers of a queue, and the slots that it has.

    In no second are more slots taken than the rate, 5 % of it and one, whatever number of workers ask. They go to the
    tasks in the order in which those came to their workers, to within a second: no worker is starved by one that is
    nearer to Redis. A worker that ends takes none with it. A Redis that has lost the rate learns it from the next
    worker that asks.
    """

    def __init__(self, redis: Redis, queue: str) -> None:
        self._redis = redis
        self._key = f"backfill:rate:{queue}"
        self._take_slot = redis.register_script(lua("take_slot"))
        self._set_rate = redis.register_script(lua("set_rate"))

    def read(self) -> Rate | None:
        """The rate that holds; None where Redis knows none yet.

        Raises:
            UsageError: what Redis has is not a rate.
        """
        try:
            text = cast("str | None", self._redis.hget(self._key, "rate"))
            return None if text is None else Rate(settings.rate_limit(text) or "none")
        except (ResponseError, ValueError) as error:
            raise UsageError(
                f"what Redis has under {self._key} is not a rate ({error}); set it again: backfill rate none"
            ) from None

    def set(self, rate: Rate) -> Rate | None:
        """Let a rate hold from now on, and answer the one before; None where Redis knew none."""
        before = self._set_rate(keys=[self._key], args=[rate.text, _microseconds(rate.interval), new_token()])
        return None if before is None else Rate(before)

    def take(self, worker: str, known: Known, *, waited: float) -> Answer:
        """Ask for a slot, to be used at once, for a task that has waited for so many seconds in this worker."""
        return self._ask(worker, known, round(waited * _MICROSECONDS))

    def learn(self, worker: str, known: Known) -> Known:
        """The rate that holds. For a worker in which no task waits."""
        return self._ask(worker, known, -1).known

    def _ask(self, worker: str, known: Known, waited: int) -> Answer:
        granted, wait, text, at = self._take_slot(
            keys=[self._key, f"{self._key}:waiting"],
            args=[worker, waited, known.rate.text, _microseconds(known.rate.interval), known.at],
        )
        return Answer(bool(granted), wait / _MICROSECONDS, Known(Rate.parse(text), int(at)))


def refuse_aging(rate: Rate, *, pages: int, page_seconds: float, redelivery_seconds: float) -> None:
    """Refuse a rate at which a page's message would be delivered a second time while it waits for the first.

    Args:
        rate: the rate.
        pages: how many messages are on their way; each lane has one at most.
        page_seconds: the longest that a page takes once it has begun.
        redelivery_seconds: after how long Redis gives a message that nobody acknowledged to another worker.

    Raises:
        UsageError: with the arithmetic.
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
    """A rate that is no lower, in words that `Rate.parse` reads."""
    hundredths = int(per_second * 360_000) + 1
    return f"{hundredths / 100:.2f}/h"


def _microseconds(seconds: float) -> str:
    return repr(seconds * _MICROSECONDS)
