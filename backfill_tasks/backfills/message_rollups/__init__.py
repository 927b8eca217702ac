"""Message roll-ups: when a lead was last written to and last wrote, out of its messages."""

from backfill_tasks.backfills.message_rollups.backfill import MessageRollups

__all__ = ["MessageRollups"]
