"""The worker's consumer: Celery's own, except that pages take their tokens from the fleet's bucket.

It relies on undocumented members of Celery's Consumer (`bucket_for_task`, `_schedule_bucket_request`,
`_limit_move_to_pool`, `task_buckets`; `on_send_event_buffered`, `_flush_events`); tests/faults/test_rate.py checks that
they still exist.
"""

from collections import deque
from time import monotonic, sleep
from typing import Any
from warnings import catch_warnings, simplefilter

from celery.bootsteps import RUN
from celery.exceptions import CPendingDeprecationWarning
from celery.utils.log import get_logger
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request
from celery.worker.state import (
    active_requests,
    maybe_shutdown,
    requests,
    reserved_requests,
    task_ready,
    task_reserved,
)
from redis.exceptions import RedisError

from backfill_tasks import settings
from backfill_tasks.engine import redis_client
from backfill_tasks.engine.model import MESSAGE_FORMAT, PageMessage
from backfill_tasks.engine.rate import FleetRate, Known, Rate
from backfill_tasks.errors import BackfillError
from backfill_tasks.escaping import shown
from backfill_tasks.scoring.message import ScoreMessage
from backfill_tasks.worker.envelope import require_task
from backfill_tasks.worker.impatience import disconnect

logger = get_logger(__name__)

PAGE = "backfill.page"
SCORE = "backfill.score"

#: The header that carries a message's format version.
FORMAT = "backfill_format"

#: How often a worker asks for the fleet's rate, and how old its copy may be when it starts a page on it, in seconds. A
#: change of the rate must apply within two seconds, so both are below that.
_ASK_SECONDS = 1.0
_OLD_SECONDS = 1.5

#: The worker's loop blocks while it asks. A Redis that takes longer than this, in seconds, grants no token.
_TIMEOUT = 0.25

#: How long an event waits to be sent together with others, in seconds: too short to notice in Flower.
_EVENT_SECONDS = 0.1

#: A connection that lasts this long counts as good; the longest backoff after one that didn't. In seconds.
_LASTING_SECONDS = 5.0
_LONGEST_PAUSE = 4.0

#: Redis is unreachable or refuses, or the value under the rate's key is not a rate.
_NO_ANSWER = (RedisError, BackfillError, ValueError)


class FleetBucket:
    """A token bucket for pages: a local queue of waiting pages in front of the fleet's bucket in Redis.

    It replaces kombu's TokenBucket. If Redis doesn't answer, no token is granted. While the fleet has no limit, tokens
    are granted without a call to Redis, on a copy of the rate that is at most 1.5 s old. `page` is the Celery task: its
    `rate_limit` applies until Redis answers, and is then set to the fleet's rate.
    """

    def __init__(self, fleet: FleetRate, worker: str, page: Any) -> None:
        self.contents: deque[tuple[Request, int]] = deque()
        self.alarm: Any = None
        self._arrivals: deque[float] = deque()
        self._fleet = fleet
        self._worker = worker
        self._page = page
        self._known = Known(Rate.parse(page.rate_limit))
        self._learned = -_OLD_SECONDS
        self._wait = _ASK_SECONDS
        self._complained = False

    @property
    def rate(self) -> Rate:
        """The fleet's rate as this worker last read it."""
        return self._known.rate

    def add(self, item: tuple[Request, int]) -> None:
        """Queue a page. Celery lists it as reserved from now on, not only once it has its token."""
        self.contents.append(item)
        self._arrivals.append(monotonic())
        task_reserved(item[0])

    def pop(self) -> tuple[Request, int]:
        """Remove and return the page that has waited longest."""
        self._arrivals.popleft()
        return self.contents.popleft()

    def clear_pending(self) -> None:
        """Drop the waiting pages: the connection is lost, and the broker redelivers them."""
        for request, _ in self.contents:
            task_ready(request)
        self.contents.clear()
        self._arrivals.clear()
        self.silence()

    def silence(self) -> None:
        """Cancel the alarm, if one is set."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def can_consume(self, _tokens: int = 1) -> bool:
        """Return whether the page that has waited longest may start now; if so, its token is taken."""
        now = monotonic()
        if self.rate.interval == 0 and now - self._learned < _OLD_SECONDS:
            return True
        self._wait = _ASK_SECONDS
        try:
            answer = self._fleet.take(self._worker, self._known, waited=now - self._arrivals[0])
        except _NO_ANSWER as error:
            self._complain(error)
            return False
        self._keep(answer.known)
        # A wait of 0 s would keep the loop busy with nothing else.
        self._wait = min(max(answer.wait, 0.001), _ASK_SECONDS)
        return answer.granted

    def expected_time(self, _tokens: int = 1) -> float:
        """Return in how many seconds to ask again: at most 1, so that a change of the rate is noticed soon."""
        return self._wait

    def learn(self) -> None:
        """Refresh the rate, unless a page is waiting, which asks anyway."""
        if self.contents:
            return
        try:
            self._keep(self._fleet.learn(self._worker, self._known))
        except _NO_ANSWER as error:
            self._complain(error)

    def set(self, rate: Rate) -> Rate:
        """Set the fleet's rate and return the previous one.

        If several workers set the same rate, only the first of them gets a different previous rate.

        Raises:
            RedisError, UsageError: the rate could not be written.
        """
        before = self._fleet.set(rate) or self.rate
        self._keep(self._fleet.learn(self._worker, self._known))
        return before

    def _keep(self, known: Known) -> None:
        if known.rate != self.rate:
            logger.info("the rate of all workers together is now %s, was %s", known.rate, self.rate)
            # Shown by `inspect registered` and Flower.
            self._page.rate_limit = known.rate.text if known.rate.interval else None
        if self._complained:
            logger.warning("the rate can be read from Redis again, so pages start")
        self._known, self._learned, self._complained = known, monotonic(), False

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            logger.warning("the rate can't be read from Redis, so no page starts until it can: %s", error)
        self._complained, self._learned = True, -_OLD_SECONDS


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer with the fleet's bucket for pages. Other tasks keep Celery's own buckets."""

    _events_are_due = False
    _failed_at = -_LASTING_SECONDS
    _pause = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # Mingle asks the other workers for revoked tasks, which nobody uses here, each time that a worker connects. It
        # repeats its question until Redis accepts it: a worker whose Redis froze just then stalled without a log line.
        super().__init__(*arguments, **options, without_mingle=True)

    def on_close(self) -> None:
        """Forget the requests that go back to the broker; running pages continue.

        Celery intends to, but looks for Request objects among the ids of `requests`, so it never removes any.
        """
        for request in [*reserved_requests]:
            if request not in active_requests:
                requests.pop(request.id, None)
        super().on_close()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Back off after a connection that failed before it was complete."""
        super().on_connection_error_before_connected(exc)
        self._wait_longer()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close what belonged to a broken connection, and back off."""
        disconnect(begins=True)
        with catch_warnings():
            simplefilter("ignore", CPendingDeprecationWarning)  # about a setting made in celeryconfig.py
            super().on_connection_error_after_connected(exc)
        self._wait_longer()

    def connect(self) -> Any:
        """Connect, however long it takes."""
        disconnect(begins=False)
        return super().connect()

    def _wait_longer(self) -> None:
        """Back off, longer each time a new connection fails at once, as it does while Redis answers but refuses."""
        lasted = monotonic() - self._failed_at - self._pause
        self._failed_at = monotonic()
        self._pause = 0.0 if lasted > _LASTING_SECONDS else min(self._pause * 2 or 0.5, _LONGEST_PAUSE)
        until = monotonic() + self._pause
        while monotonic() < until:
            maybe_shutdown()
            sleep(0.1)

    def on_send_event_buffered(self) -> None:
        """Schedule one flush for all events of a moment: a page has three, and Celery would send each separately."""
        if self.hub and not self._events_are_due:
            self._events_are_due = True
            self.timer.call_after(_EVENT_SECONDS, self._flush_events)

    def _flush_events(self) -> None:
        self._events_are_due = False
        super()._flush_events()

    def bucket_for_task(self, type: Any) -> Any:  # noqa: A002  Celery's name
        """Return a task type's bucket. The pages' is made once and updated in place, so waiting pages stay in it."""
        if type.name != PAGE:
            return super().bucket_for_task(type)
        return self.task_buckets[PAGE] or self._fleet_bucket(type)

    def register_with_event_loop(self, hub: Any) -> None:
        """Learn the rate before the loop starts, then refresh it periodically.

        The loop drops its timers when it ends.
        """
        super().register_with_event_loop(hub)
        self._events_are_due = False
        bucket = self.task_buckets[PAGE]
        bucket.learn()
        hub.call_repeatedly(_ASK_SECONDS, bucket.learn)

    def set_fleet_rate(self, rate: Rate) -> Rate:
        """Set the fleet's rate and return the previous one; pages waiting in this worker ask again at once.

        Raises:
            RedisError, UsageError: the rate could not be written.
        """
        bucket = self.task_buckets[PAGE]
        before: Rate = bucket.set(rate)
        self._give_out(bucket)
        return before

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """Return Celery's task handler behind a check, because Celery trusts whatever a message says."""
        handle = super().create_task_handler(*args, **options)
        # Celery's own tasks serve its canvas, which this application doesn't use.
        signatures = {name: task.__header__ for name, task in self.app.tasks.items() if not name.startswith("celery.")}

        def take(message: Any) -> None:
            try:
                name, arguments = require_task(message, signatures)
                if name == PAGE and (message.headers.get(FORMAT) or MESSAGE_FORMAT) <= MESSAGE_FORMAT:
                    PageMessage.parse(arguments)
                if name == SCORE:
                    ScoreMessage.parse(arguments)
                handle(message)
            except (RedisError, OSError):
                raise
            except Exception as error:  # noqa: BLE001  no message may end the worker
                self._park(message, error)

        return take

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002  Celery's signature
        """Park a message that is not a task; Celery would drop it."""
        self._park(message, "it is not a task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """Park a message whose task doesn't exist; Celery would drop it."""
        self._park(message, f"no task has this name: {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """Park a message with invalid headers; Celery would drop it."""
        self._park(message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Park a message whose body can't be decoded; Celery would drop it."""
        self._park(message, exc)

    def _park(self, message: Any, why: Exception | str) -> None:
        message.channel.park(message, shown(str(why) or repr(why)))

    def _schedule_bucket_request(self, bucket: Any) -> None:
        """Start what may start when a task arrives. Celery sets one more timer per task, which floods its loop."""
        if not isinstance(bucket, FleetBucket):
            super()._schedule_bucket_request(bucket)
        elif bucket.alarm is None:
            self._give_out(bucket)

    def _give_out(self, bucket: FleetBucket) -> None:
        """Start every page that gets a token, and set one timer for the rest, even if starting a page fails."""
        bucket.silence()
        if self.blueprint.state != RUN:  # a closing pool accepts nothing; the broker redelivers
            return
        try:
            while bucket.contents and bucket.can_consume():
                request, _ = bucket.pop()
                self._limit_move_to_pool(request)
        finally:
            if bucket.contents:
                bucket.alarm = self.timer.call_after(bucket.expected_time(), self._give_out, (bucket,))

    def _fleet_bucket(self, page: Any) -> FleetBucket:
        config = settings.load()
        redis = redis_client.connect(config.redis_url, patience=0, timeout=_TIMEOUT)
        return FleetBucket(FleetRate(redis, config.queue), self.hostname, page)
