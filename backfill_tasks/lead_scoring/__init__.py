"""Lead scoring: the host's unscored leads get the job that scores them, or the score of the disqualified."""

from backfill_tasks.lead_scoring.backfill import LeadScoring

__all__ = ["LeadScoring"]
