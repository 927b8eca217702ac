"""The worker's events: news for Flower, which must not delay the worker."""

from contextlib import nullcontext, suppress
from math import inf
from typing import Any

from celery.app import events
from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # Celery has no types
    """A dispatcher that sends each event once and raises errors in the worker's loop, which then reconnects.

    Celery's own dispatcher retries a heartbeat until Redis answers: with a frozen Redis, the worker ignored signals to
    stop. It buffers events that it can't send and later sends each again, with a timeout each. And it flushes task
    events wherever the 24th of them occurs: in the pool's callback, where an error is only a logged traceback.

    Weakness: events that fail to be sent are lost, so Flower misses them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.buffer_while_offline = False
        self.buffer_limit = inf  # the loop flushes it soon after the first event: Consumer.on_send_event_buffered
        self._error: Exception | None = None

    def send(self, type: str, *arguments: Any, **fields: Any) -> Any:  # noqa: A002  Celery's name
        """Send an event, or buffer it for the loop.

        Raises:
            Exception: the connection's error; suppressed for the worker's goodbye, sent while the connection is being
                closed.
        """
        with suppress(Exception) if type == "worker-offline" else nullcontext():
            return super().send(type, *arguments, **fields)

    def _publish(self, event: Any, producer: Any, routing_key: str, **_: Any) -> None:
        if producer is None:  # closed while a page was ending
            return
        if self._error:  # fail at once, without a timeout per event, until the loop has reconnected
            raise self._error
        try:
            super()._publish(event, producer, routing_key)
        except Exception as error:
            self._error = error
            raise


class Events(events.Events):  # type: ignore[misc]  # Celery has no types
    """Celery's events, sent by our dispatcher."""

    dispatcher_cls = f"{__name__}:Dispatcher"
