"""The watchdog's trigger: on beat's message, a worker looks after the lanes."""

from backfill_tasks.settings import Settings
from backfill_tasks.worker.app import app
from backfill_tasks.worker.on_beat import OnBeat
from backfill_tasks.worker.tasks import look_after_lanes


class Watchdog(OnBeat):
    """Looks after the lanes."""

    subject = "the watchdog"

    def queue_of(self, config: Settings) -> str:
        """Return the watchdog's queue."""
        return config.watchdog_queue

    def work(self) -> None:
        """Reseed stalled lanes."""
        look_after_lanes()


app.steps["consumer"].add(Watchdog)
