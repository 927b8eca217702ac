"""The drain's trigger: on beat's message, a worker takes the drain's lease if it is free.

A call of the host's runner takes up to four minutes, and does nothing here but wait. In a task it would occupy one of
the pool's children, and so a page's place, all that time.
"""

from backfill_tasks.settings import Settings
from backfill_tasks.worker.app import app
from backfill_tasks.worker.on_beat import OnBeat
from backfill_tasks.worker.tasks import look_after_drain


class Drain(OnBeat):
    """Looks after the drain: keeps its lease, and calls the host's runner, while there is something to call for."""

    subject = "the drain"

    def queue_of(self, config: Settings) -> str:
        """Return the drain's queue."""
        return config.drain_queue

    def work(self) -> None:
        """Take a turn at the drain. It lasts for as long as the drain has something to call for."""
        look_after_drain()


app.steps["consumer"].add(Drain)
