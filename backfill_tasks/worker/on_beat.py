"""Work that beat triggers and that runs in a thread of a worker's main process.

A task would wait for a prefetch slot and a child, behind pages that are slow or wait for the fleet's rate. So beat's
messages have queues of their own, each worker consumes them over channels of their own, and no child is needed.
"""

import threading
from abc import abstractmethod
from time import monotonic
from typing import Any, ClassVar

from celery import bootsteps
from celery.utils.log import get_logger
from kombu.entity import Queue
from kombu.messaging import Consumer

from backfill_tasks import settings
from backfill_tasks.settings import Settings

logger = get_logger(__name__)


class OnBeat(bootsteps.ConsumerStep):  # type: ignore[misc]  # Celery has no types
    """Consumes beat's messages of one queue and does the work they trigger, one pass at a time.

    Weakness: beat's messages pile up while no worker is online. They carry no information, so a starting worker purges
    them.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    #: What the work is called in the log.
    subject: ClassVar[str]

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        config = settings.load()
        name = self.queue_of(config)
        self._queue = Queue(name, routing_key=name)  # type: ignore[no-untyped-call]
        self._between = config.watchdog_seconds / 2
        self._began = -self._between
        self._at_it = threading.Lock()

    @abstractmethod
    def queue_of(self, config: Settings) -> str:
        """Return the name of the queue of beat's messages."""

    @abstractmethod
    def work(self) -> None:
        """Do one pass, in a thread. Any failure is retried on beat's next message."""

    def get_consumers(self, channel: Any) -> list[Consumer]:
        """Return a consumer of beat's messages, on a channel that pages' messages can't exhaust."""
        consumer = Consumer(channel, queues=[self._queue], on_message=self._on_message, no_ack=True)  # type: ignore[no-untyped-call]
        consumer.purge()  # type: ignore[no-untyped-call]
        return [consumer]

    def _on_message(self, _: Any) -> None:
        if monotonic() - self._began < self._between or not self._at_it.acquire(blocking=False):
            return
        self._began = monotonic()
        threading.Thread(target=self._pass, name=self.subject, daemon=True).start()

    def _pass(self) -> None:
        try:
            self.work()
        except Exception as error:  # noqa: BLE001  any failure is retried on beat's next message
            logger.warning(
                "%s's pass failed. The next one tries again: %s", self.subject, str(error).partition("\n")[0]
            )
        finally:
            self._at_it.release()
