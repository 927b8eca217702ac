"""The backfills that there are, by name."""

from collections.abc import Mapping

from backfill_tasks.engine.backfill import Backfill
from backfill_tasks.lead_scoring import Drain, LeadScoring


def backfills(schema: str, drain: Drain) -> Mapping[str, Backfill]:
    """Every backfill, for a host whose tables are in this schema and whose queue is drained at these times."""
    return {each.name: each for each in (LeadScoring(schema, drain),)}
