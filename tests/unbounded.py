"""A pace without bounds, except those that a test is about."""

from dataclasses import replace
from typing import Any

from backfill_tasks.options import UNBOUNDED, Pace


def only(**bounds: Any) -> Pace:
    """Return a pace with only these bounds."""
    return replace(UNBOUNDED, **bounds)
