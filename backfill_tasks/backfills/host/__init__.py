"""The host's tables as shared by all backfills of them: names, rights, leads."""

from backfill_tasks.backfills.host.leads import Leads

__all__ = ["Leads"]
