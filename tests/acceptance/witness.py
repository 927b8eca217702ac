"""The Celery app with a witness that logs which of Flower's modules a process has loaded. For tests only."""

import logging
import sys
from typing import Any

from celery.signals import beat_init, worker_process_init

from backfill_tasks.worker.app import app

__all__ = ["app"]


@worker_process_init.connect
@beat_init.connect
def _testify(**_: Any) -> None:
    seen = sorted(name for name in sys.modules if name.startswith("backfill_tasks.worker"))
    logging.getLogger(__name__).warning("modules: %s.", " ".join(seen))
