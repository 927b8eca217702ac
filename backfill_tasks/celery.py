"""The Celery app: `celery -A backfill_tasks worker`, `… beat`, `… flower`. Its settings are in celeryconfig.py."""

import logging

import billiard.pool
from celery import Celery
from celery.signals import after_setup_logger

# A worker that is asked to end forgets tasks that it has handed to a child and the child has not yet begun with
# (AsynPool.flush): their messages go back. A child that did begin waits until somebody takes note of its outcome, for
# so many times 0.1 s, by default 300: a stop took half a minute. What it has done is committed, and the fence drops the
# message that comes again.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20

app = Celery("backfill", include=[f"backfill_tasks.{name}" for name in ("tasks", "fleet", "control", "flower")])
app.config_from_object("celeryconfig")


@after_setup_logger.connect  # type: ignore[untyped-decorator]
def _one_line_an_event(**_: object) -> None:
    """The page says itself what became of it: Celery's lines about the same page are left out."""
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
