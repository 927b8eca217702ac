"""The product's Celery app with a visibility time-out that a fault can outlast; the setting's minimum is 60 s."""

from backfill_tasks.worker.app import app

__all__ = ["VISIBILITY_SECONDS", "app"]

VISIBILITY_SECONDS = 10

app.conf.broker_transport_options = {
    **app.conf.broker_transport_options,
    "visibility_timeout": VISIBILITY_SECONDS,
    "unacked_restore_interval": 2,
    "unacked_restore_throttle": 1,
}
