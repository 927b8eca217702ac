"""The Celery app: `celery -A backfill_tasks worker`, `… beat`, `… flower`. Its settings are in celeryconfig.py."""

import logging

from celery import Celery
from celery.signals import after_setup_logger

app = Celery("backfill", include=[f"backfill_tasks.{name}" for name in ("tasks", "fleet", "control", "flower")])
app.config_from_object("celeryconfig")


@after_setup_logger.connect  # type: ignore[untyped-decorator]
def _one_line_an_event(**_: object) -> None:
    """The page says itself what became of it: Celery's lines about the same page are left out."""
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
