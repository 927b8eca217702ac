"""Where `celery -A backfill_tasks` finds the app."""

from backfill_tasks.worker.app import app

__all__ = ["app"]
