"""The worker's events: news for Flower, which must not hold up the worker."""

from typing import Any

from celery.app import events
from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):  # type: ignore[misc]  # Celery has no types
    """Sends each event once.

    Celery's own repeats a heartbeat until Redis answers, in the worker's loop: a worker whose Redis was frozen heard
    no signal to stop. Other events it collects, to send each again, with a time-out each. Here the error reaches the
    loop, and the worker connects again.

    Weakness: Flower misses the events of the time in between.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.buffer_while_offline = False
        self._lost = False

    def _publish(self, event: Any, producer: Any, routing_key: str, **_: Any) -> None:
        # Until the worker has connected again, and has another dispatcher; this one may be closed while a page ends.
        if self._lost or producer is None:
            return
        try:
            super()._publish(event, producer, routing_key)
        except Exception:
            self._lost = True
            raise


class Events(events.Events):  # type: ignore[misc]  # Celery has no types
    """Celery's events, sent by our dispatcher."""

    dispatcher_cls = f"{__name__}:Dispatcher"
