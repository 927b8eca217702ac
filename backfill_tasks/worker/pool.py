"""The worker's pool: Celery's prefork pool, which survives any dead child and stops within a bounded time."""

import os
import signal
from contextlib import suppress
from threading import Timer

from celery.concurrency import prefork
from celery.utils.log import get_logger

logger = get_logger(__name__)

#: How long a warm stop waits for running pages, in seconds: longer than an undisturbed page takes, shorter than the
#: grace period in docker-compose.yml.
_STOP_SECONDS = 15.0


class TaskPool(prefork.TaskPool):  # type: ignore[misc]  # Celery has no types
    """Celery's pool. A child that dies during the worker's start is replaced, as it would be later."""

    def did_start_ok(self) -> bool:
        """Replace dead children; Celery would end the worker."""
        self.maintain_pool()
        return True

    @property
    def num_processes(self) -> int:
        """The number of children; once the pool has ended, the number it had: Celery asks if Redis fails then."""
        return int(self._pool._processes if self._pool else self.limit)  # noqa: SLF001

    def on_stop(self) -> None:
        """Wait for running pages, and kill those still waiting for a silent Redis or PostgreSQL at the time limit."""
        timer = Timer(_STOP_SECONDS, self._kill_children)
        timer.daemon = True
        timer.start()
        try:
            super().on_stop()
        finally:
            timer.cancel()

    def _kill_children(self) -> None:
        """Give up running pages: their transactions roll back, and their messages are redelivered."""
        logger.warning(
            "some pages didn't end within %d s. The worker kills them, and they are redelivered", _STOP_SECONDS
        )
        for child in [*self._pool._pool]:  # noqa: SLF001  Celery exposes its children nowhere else
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
