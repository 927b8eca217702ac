"""The backfills that there are, by name."""

from collections.abc import Mapping

from backfill_tasks.backfills.lead_scoring import Drain, LeadScoring
from backfill_tasks.backfills.message_rollups import MessageRollups
from backfill_tasks.engine.contract import Backfill

#: The kinds of backfill, by the name that an operator gives.
KINDS: Mapping[str, type[Backfill]] = {each.name: each for each in (LeadScoring, MessageRollups)}

#: The one that is meant where no name is given.
DEFAULT = LeadScoring.name


def backfills(schema: str, drain: Drain) -> Mapping[str, Backfill]:
    """Every backfill, for a host whose tables are in this schema and whose queue is drained at these times."""
    return {each.name: each for each in (LeadScoring(schema, drain), MessageRollups(schema))}
