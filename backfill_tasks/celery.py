"""The Celery app: `celery -A backfill_tasks worker`, `… beat`, `… flower`. Its settings are in celeryconfig.py."""

from celery import Celery

app = Celery("backfill", include=["backfill_tasks.tasks", "backfill_tasks.fleet"])
app.config_from_object("celeryconfig")
