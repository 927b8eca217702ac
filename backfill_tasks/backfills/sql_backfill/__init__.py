"""A backfill in its simplest form: a table, its key, a condition, and the change for the rows that meet it."""

from backfill_tasks.backfills.sql_backfill.backfill import SqlBackfill

__all__ = ["SqlBackfill"]
