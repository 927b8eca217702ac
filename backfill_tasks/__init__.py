"""Backfills of a live PostgreSQL database, walked page by page by Celery workers.

The names in `__all__` are the public API, with what their methods take and return and the errors in
`backfill_tasks.errors`. They follow semantic versioning. Everything else is private.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from backfill_tasks.backfills.sql_backfill import SqlBackfill
    from backfill_tasks.client import Client
    from backfill_tasks.engine.contract import Backfill, ItemsFailed, Missing, RowChanged, Stretch
    from backfill_tasks.engine.model import PageResult
    from backfill_tasks.kinds import Flag, Number, Text, Texts, Whole
    from backfill_tasks.options import Option

__all__ = [
    "Backfill",
    "Client",
    "Flag",
    "ItemsFailed",
    "Missing",
    "Number",
    "Option",
    "PageResult",
    "RowChanged",
    "SqlBackfill",
    "Stretch",
    "Text",
    "Texts",
    "Whole",
]

#: The modules of the public names. Importing the package imports none of them.
_MODULES = {
    "backfill_tasks.backfills.sql_backfill": ("SqlBackfill",),
    "backfill_tasks.client": ("Client",),
    "backfill_tasks.engine.contract": ("Backfill", "ItemsFailed", "Missing", "RowChanged", "Stretch"),
    "backfill_tasks.engine.model": ("PageResult",),
    "backfill_tasks.kinds": ("Flag", "Number", "Text", "Texts", "Whole"),
    "backfill_tasks.options": ("Option",),
}

_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("backfill")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
