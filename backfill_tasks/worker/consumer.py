"""The worker's consumer: Celery's own, but that the bucket from which pages take their tokens is the fleet's.

It leans on members of Celery's Consumer that are not documented (`bucket_for_task`, `_schedule_bucket_request`,
`_limit_move_to_pool`, `task_buckets`; `on_send_event_buffered`, `_flush_events`); tests/faults/test_rate.py shows that
they are still there.
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
from backfill_tasks.worker.envelope import require_task
from backfill_tasks.worker.impatience import disconnect

logger = get_logger(__name__)

PAGE = "backfill.page"

#: The header of a message that names its format.
FORMAT = "backfill_format"

#: How often a worker asks which rate holds, in seconds, and how old its knowledge may be when a page is let go by it.
#: Both together are well below the two seconds in which a change has to hold.
_ASK_SECONDS = 1.0
_OLD_SECONDS = 1.5

#: The worker's loop stands still while it asks: a Redis that takes longer than this, in seconds, has no slot to give.
_TIMEOUT = 0.25

#: How long an event waits for others, in seconds: who looks at Flower does not notice.
_EVENT_SECONDS = 0.1

#: A connection that lasts for so long was a good one; the longest wait after one that did not. In seconds.
_LASTING_SECONDS = 5.0
_LONGEST_PAUSE = 4.0

#: Redis is away or refuses, or what it has under the rate's key is none.
_NO_ANSWER = (RedisError, BackfillError, ValueError)


class FleetBucket:
    """In the place of kombu's TokenBucket: the pages that wait in this worker, and the fleet's bucket behind them.

    Without an answer from Redis it has no token. Where the rate is none it gives them away without asking, by knowledge
    that is a second old at most. `page` is the task: its `rate_limit` holds until Redis is heard, and follows it then.
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
        """The rate as this worker knows it."""
        return self._known.rate

    def add(self, item: tuple[Request, int]) -> None:
        """Let a page wait. Celery lists it as reserved from now on, and not only when it has its token."""
        self.contents.append(item)
        self._arrivals.append(monotonic())
        task_reserved(item[0])

    def pop(self) -> tuple[Request, int]:
        """The page that has waited longest."""
        self._arrivals.popleft()
        return self.contents.popleft()

    def clear_pending(self) -> None:
        """Forget what waits: the connection is gone, and the broker delivers it again."""
        for request, _ in self.contents:
            task_ready(request)
        self.contents.clear()
        self._arrivals.clear()
        self.silence()

    def silence(self) -> None:
        """Call the alarm off, if one is set."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def can_consume(self, _tokens: int = 1) -> bool:
        """Whether the page that has waited longest may go now; if so, its token is taken."""
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
        # An answer of 0 s would let this loop do nothing else.
        self._wait = min(max(answer.wait, 0.001), _ASK_SECONDS)
        return answer.granted

    def expected_time(self, _tokens: int = 1) -> float:
        """In how many seconds to ask again; a second at most, so that a change of the rate is soon seen."""
        return self._wait

    def learn(self) -> None:
        """Ask which rate holds, if no page waits that asks anyway."""
        if self.contents:
            return
        try:
            self._keep(self._fleet.learn(self._worker, self._known))
        except _NO_ANSWER as error:
            self._complain(error)

    def set(self, rate: Rate) -> Rate:
        """Let a rate hold for the whole fleet, and answer the one before: of workers that set the same, one changes it.

        Raises:
            RedisError, UsageError: it could not be written.
        """
        before = self._fleet.set(rate) or self.rate
        self._keep(self._fleet.learn(self._worker, self._known))
        return before

    def _keep(self, known: Known) -> None:
        if known.rate != self.rate:
            logger.info("the fleet's rate is %s, not %s", known.rate, self.rate)
            # What `inspect registered` and Flower show.
            self._page.rate_limit = known.rate.text if known.rate.interval else None
        if self._complained:
            logger.warning("the fleet's rate can be asked for again")
        self._known, self._learned, self._complained = known, monotonic(), False

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            logger.warning("the fleet's rate can't be asked for, and no page starts without: %s", error)
        self._complained, self._learned = True, -_OLD_SECONDS


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer with the fleet's bucket for pages. Its other tasks have Celery's own."""

    _events_are_due = False
    _failed_at = -_LASTING_SECONDS
    _pause = 0.0

    def on_close(self) -> None:
        """Forget the requests that go back to the broker; pages at work go on.

        Celery means to, but looks for Request objects among the ids of `requests`, and so keeps them for ever.
        """
        for request in [*reserved_requests]:
            if request not in active_requests:
                requests.pop(request.id, None)
        super().on_close()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Wait after a connection that wasn't complete yet."""
        super().on_connection_error_before_connected(exc)
        self._wait_longer()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Wait after a connection that broke, and end what belongs to it."""
        disconnect(begins=True)
        with catch_warnings():
            simplefilter("ignore", CPendingDeprecationWarning)  # of a setting that celeryconfig.py makes
            super().on_connection_error_after_connected(exc)
        self._wait_longer()

    def connect(self) -> Any:
        """Connect, however long it takes."""
        disconnect(begins=False)
        return super().connect()

    def _wait_longer(self) -> None:
        """Wait a little longer each time that a new connection fails at once: Redis answers and refuses."""
        lasted = monotonic() - self._failed_at - self._pause
        self._failed_at = monotonic()
        self._pause = 0.0 if lasted > _LASTING_SECONDS else min(self._pause * 2 or 0.5, _LONGEST_PAUSE)
        until = monotonic() + self._pause
        while monotonic() < until:
            maybe_shutdown()
            sleep(0.1)

    def on_send_event_buffered(self) -> None:
        """Send the events of a moment together: a page has three, and Celery would send each for itself."""
        if self.hub and not self._events_are_due:
            self._events_are_due = True
            self.timer.call_after(_EVENT_SECONDS, self._flush_events)

    def _flush_events(self) -> None:
        self._events_are_due = False
        super()._flush_events()

    def bucket_for_task(self, type: Any) -> Any:  # noqa: A002  Celery's name
        """The bucket of a task type. That of pages is made once and changed in place: what waits in it stays there."""
        if type.name != PAGE:
            return super().bucket_for_task(type)
        return self.task_buckets[PAGE] or self._fleet_bucket(type)

    def register_with_event_loop(self, hub: Any) -> None:
        """Join the loop, knowing the rate, and ask for it again and again; the loop drops its timers when it ends."""
        super().register_with_event_loop(hub)
        self._events_are_due = False
        bucket = self.task_buckets[PAGE]
        bucket.learn()
        hub.call_repeatedly(_ASK_SECONDS, bucket.learn)

    def set_fleet_rate(self, rate: Rate) -> Rate:
        """Let a rate hold for the whole fleet, and answer the one before; what waits here asks at once.

        Raises:
            RedisError, UsageError: it could not be written.
        """
        bucket = self.task_buckets[PAGE]
        before: Rate = bucket.set(rate)
        self._give_out(bucket)
        return before

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """What takes each task: Celery's own, behind a check, because Celery trusts what a message says."""
        handle = super().create_task_handler(*args, **options)
        # Celery's own tasks are those of its canvas, which nobody here sends.
        signatures = {name: task.__header__ for name, task in self.app.tasks.items() if not name.startswith("celery.")}

        def take(message: Any) -> None:
            try:
                name, arguments = require_task(message, signatures)
                if name == PAGE and (message.headers.get(FORMAT) or MESSAGE_FORMAT) <= MESSAGE_FORMAT:
                    PageMessage.parse(arguments)
                handle(message)
            except (RedisError, OSError):
                raise
            except Exception as error:  # noqa: BLE001  whatever it holds, it must not end the worker
                self._park(message, error)

        return take

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002  Celery's signature
        """Park what Celery would drop: it is no task."""
        self._park(message, "it is no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """Park what Celery would drop: no task has this name."""
        self._park(message, f"no task has this name: {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """Park what Celery would drop: its headers make no sense."""
        self._park(message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Park what Celery would drop: its body can't be read."""
        self._park(message, exc)

    def _park(self, message: Any, why: Exception | str) -> None:
        message.channel.park(message, shown(str(why) or repr(why)))

    def _schedule_bucket_request(self, bucket: Any) -> None:
        """Called when a task has come. Celery sets one more timer for each, and its loop drowns in them."""
        if not isinstance(bucket, FleetBucket):
            super()._schedule_bucket_request(bucket)
        elif bucket.alarm is None:
            self._give_out(bucket)

    def _give_out(self, bucket: FleetBucket) -> None:
        """Let all pages go that may; for the rest one timer is set, whatever happens to those."""
        bucket.silence()
        if self.blueprint.state != RUN:  # a pool that closes takes nothing any more; the broker delivers it again
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
