"""The dead letters of this environment."""

from backfill_tasks.cli.context import Session
from backfill_tasks.engine import redis_client
from backfill_tasks.worker.dead_letters import DeadLetters


def letters_of(session: Session) -> DeadLetters:
    """The dead letters of this environment."""
    return DeadLetters(redis_client.connect(session.settings.redis_url, patience=0), session.settings.queue)
