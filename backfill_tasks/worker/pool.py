"""The worker's pool: Celery's prefork pool, that no dead child ends, and that a stop doesn't wait for without end."""

import os
import signal
from contextlib import suppress
from threading import Timer

from celery.concurrency import prefork
from celery.utils.log import get_logger

logger = get_logger(__name__)

#: How long a warm stop waits for the pages at work, in seconds: longer than a page takes that nothing holds up, shorter
#: than the grace that docker-compose.yml grants.
_STOP_SECONDS = 15.0


class TaskPool(prefork.TaskPool):  # type: ignore[misc]  # Celery has no types
    """Celery's pool. A child that dies while the worker starts is replaced, as it is later."""

    def did_start_ok(self) -> bool:
        """Replace the children that are gone; Celery would end the worker."""
        self.maintain_pool()
        return True

    @property
    def num_processes(self) -> int:
        """How many children there are; after the pool's end, how many there were. Celery asks when Redis goes then."""
        return int(self._pool._processes if self._pool else self.limit)  # noqa: SLF001

    def on_stop(self) -> None:
        """Wait for the pages at work, and end those that wait for a Redis or PostgreSQL that is silent."""
        timer = Timer(_STOP_SECONDS, self._kill_children)
        timer.daemon = True
        timer.start()
        try:
            super().on_stop()
        finally:
            timer.cancel()

    def _kill_children(self) -> None:
        """Give the pages at work up: their transactions roll back, and their messages come back."""
        logger.warning("the worker stops without the pages that didn't end within %d s", _STOP_SECONDS)
        for child in [*self._pool._pool]:  # noqa: SLF001  Celery lists its children nowhere else
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
