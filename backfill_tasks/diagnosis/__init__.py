"""Diagnosis: why a lane that should move doesn't. Used by the command, its JSON output and the exporter.

Importing the package imports only what tells whether a lane needs a reason: most commands never diagnose.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from backfill_tasks.diagnosis.reasons import explained, needs_reason

if TYPE_CHECKING:
    from backfill_tasks.diagnosis.diagnoser import Diagnoser
    from backfill_tasks.diagnosis.facts import Key
    from backfill_tasks.diagnosis.rules import KINDS, Reason

__all__ = ["KINDS", "Diagnoser", "Key", "Reason", "explained", "needs_reason"]

#: Where the other names are defined.
_HOMES = {
    "Diagnoser": "backfill_tasks.diagnosis.diagnoser",
    "Key": "backfill_tasks.diagnosis.facts",
    "KINDS": "backfill_tasks.diagnosis.rules",
    "Reason": "backfill_tasks.diagnosis.rules",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
