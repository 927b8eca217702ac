"""Lead scoring: the host's unscored leads get the job that scores them, or the score of the disqualified."""

from backfill_tasks.backfills.lead_scoring.backfill import LeadScoring
from backfill_tasks.backfills.lead_scoring.queue import Drain

__all__ = ["Drain", "LeadScoring"]
