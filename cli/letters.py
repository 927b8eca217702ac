"""Access to the dead letters."""

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.engine import redis_client
from backfill_tasks.worker.dead_letters import DeadLetters


def letters_of(context: CommandContext) -> DeadLetters:
    """Return the dead letters of this environment's queue."""
    return DeadLetters(redis_client.connect(context.settings.redis_url, patience=0), context.settings.queue)
