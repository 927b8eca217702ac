"""The easy form of a backfill: a table, a key, what still needs doing, and what does it."""

from backfill_tasks.backfills.sql_backfill.backfill import SqlBackfill

__all__ = ["SqlBackfill"]
