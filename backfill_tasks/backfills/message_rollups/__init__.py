"""Message roll-ups: set, from each lead's messages, when it was last written to and last wrote."""

from backfill_tasks.backfills.message_rollups.backfill import MessageRollups

__all__ = ["MessageRollups"]
