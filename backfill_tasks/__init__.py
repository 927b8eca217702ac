"""Backfills of a live PostgreSQL database, walked page by page by Celery workers.

The names in `__all__` are the public API, with what they take and return: the kinds of values in backfill_tasks.options
and the errors in `backfill_tasks.errors`. They follow semantic versioning. Everything else is private.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backfill_tasks.backfills.sql_backfill import SqlBackfill
    from backfill_tasks.client import Client
    from backfill_tasks.engine.contract import Backfill
    from backfill_tasks.engine.model import PageResult
    from backfill_tasks.options import Option

__all__ = ["Backfill", "Client", "Option", "PageResult", "SqlBackfill"]

__version__ = version("backfill")

#: Where each public name is defined. Importing the package imports none of them.
_HOMES = {
    "Backfill": "backfill_tasks.engine.contract",
    "Client": "backfill_tasks.client",
    "Option": "backfill_tasks.options",
    "PageResult": "backfill_tasks.engine.model",
    "SqlBackfill": "backfill_tasks.backfills.sql_backfill",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
