"""The host's tables, as every backfill of them meets them: names, rights, leads."""

from backfill_tasks.backfills.host.leads import Leads

__all__ = ["Leads"]
