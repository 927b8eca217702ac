"""A pace for tests: no bound but those that a test is about."""

from dataclasses import replace
from typing import Any

from backfill_tasks.options import UNBOUNDED, Pace


def only(**bounds: Any) -> Pace:
    """These bounds, and no other."""
    return replace(UNBOUNDED, **bounds)
