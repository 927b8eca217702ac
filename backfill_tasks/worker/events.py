"""The worker's events: news for Flower, which must not hold up the worker."""

from contextlib import nullcontext, suppress
from math import inf
from typing import Any

from celery.app import events
from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # Celery has no types
    """Sends each event once, and where an error reaches the worker's loop, which then connects again.

    Celery's own repeats a heartbeat until Redis answers: a worker whose Redis was frozen heard no signal to stop. What
    it can't send it collects, to send each event again, with a time-out each. And it sends the events of tasks from
    wherever the 24th of them happens: in the pool's callback, where an error is a traceback that nobody acts upon.

    Weakness: Flower misses the events of the time in between.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.buffer_while_offline = False
        self.buffer_limit = inf  # the loop empties it, a moment after the first event: Consumer.on_send_event_buffered
        self._error: Exception | None = None

    def send(self, type: str, *arguments: Any, **fields: Any) -> Any:  # noqa: A002  Celery's name
        """Send an event, or put it by for the loop.

        Raises:
            Exception: the connection's. Not for a worker's farewell: it is sent while the connection is let go.
        """
        with suppress(Exception) if type == "worker-offline" else nullcontext():
            return super().send(type, *arguments, **fields)

    def _publish(self, event: Any, producer: Any, routing_key: str, **_: Any) -> None:
        if producer is None:  # closed, while a page ends
            return
        if self._error:  # the connection is gone: no time-out for each event until the loop has another
            raise self._error
        try:
            super()._publish(event, producer, routing_key)
        except Exception as error:
            self._error = error
            raise


class Events(events.Events):  # type: ignore[misc]  # Celery has no types
    """Celery's events, sent by our dispatcher."""

    dispatcher_cls = f"{__name__}:Dispatcher"
