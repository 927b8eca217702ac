"""Build runs for unit tests."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from backfill_tasks.engine.model import Lane, Run, RunId
from backfill_tasks.options import Parameters

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run_of(*lanes: Lane, **changes: Any) -> Run:
    """Return a run with these lanes that has just started, with these fields changed."""
    whole = Run(
        id=RunId("r-1"),
        mode="apply",
        state="running",
        reason=None,
        parameters=Parameters("lead-scoring", 500, len(lanes)),
        single_batch=False,
        started_at=START,
        finished_at=None,
        seen_at=START,
        started_by="me@here",
        ordinal=0,
        expected=None,
        lanes=lanes,
    )
    return replace(whole, **changes)
