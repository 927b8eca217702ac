"""Lead scoring: give each of the host's unscored leads a scoring job, or, if disqualified, the lowest score."""

from backfill_tasks.backfills.lead_scoring.backfill import LeadScoring
from backfill_tasks.backfills.lead_scoring.queue import Drain

__all__ = ["Drain", "LeadScoring"]
