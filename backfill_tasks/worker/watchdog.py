"""The watchdog's trigger: on beat's message, it runs in a thread of a worker's main process.

A task would wait for a prefetch slot and a child, behind pages that are slow or wait for the fleet's rate. So beat's
messages have their own queue, each worker consumes it over its own channel, and no child is needed.
"""

import threading
from time import monotonic
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger
from kombu.entity import Queue
from kombu.messaging import Consumer

from backfill_tasks import settings
from backfill_tasks.worker.app import app
from backfill_tasks.worker.tasks import look_after_lanes

logger = get_logger(__name__)


class Watchdog(bootsteps.ConsumerStep):  # type: ignore[misc]  # Celery has no types
    """Consumes beat's messages and looks after the lanes, one pass at a time.

    Weakness: beat's messages pile up while no worker is online. They carry no information, so a starting worker purges
    them.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        config = settings.load()
        self._queue = Queue(config.watchdog_queue, routing_key=config.watchdog_queue)  # type: ignore[no-untyped-call]
        self._between = config.watchdog_seconds / 2
        self._began = -self._between
        self._at_it = threading.Lock()

    def get_consumers(self, channel: Any) -> list[Consumer]:
        """Return a consumer of beat's messages, on a channel that pages' messages can't exhaust."""
        consumer = Consumer(channel, queues=[self._queue], on_message=self._on_message, no_ack=True)  # type: ignore[no-untyped-call]
        consumer.purge()  # type: ignore[no-untyped-call]
        return [consumer]

    def _on_message(self, _: Any) -> None:
        if monotonic() - self._began < self._between or not self._at_it.acquire(blocking=False):
            return
        self._began = monotonic()
        threading.Thread(target=self._look, name="watchdog", daemon=True).start()

    def _look(self) -> None:
        try:
            look_after_lanes()
        except Exception as error:  # noqa: BLE001  any failure is retried on beat's next message
            logger.warning("the watchdog's pass failed. The next one tries again: %s", str(error).partition("\n")[0])
        finally:
            self._at_it.release()


app.steps["consumer"].add(Watchdog)
