"""What Celery's own `rate_limit` does to pages: it sets the rate of the whole fleet, and the ledger has who did."""

from typing import Any

from celery.worker import control
from celery.worker.control import control_command
from redis.exceptions import RedisError

from backfill_tasks.engine.rate import Rate
from backfill_tasks.errors import UsageError
from backfill_tasks.worker.consumer import PAGE
from backfill_tasks.worker.fleet import require_room
from backfill_tasks.worker.tasks import note_rate


@control_command(  # type: ignore[untyped-decorator]
    name="rate_limit",
    args=[("task_name", str), ("rate_limit", str)],
    signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
)
def set_rate_limit(state: Any, task_name: str, rate_limit: str | float | None, **options: Any) -> Any:
    """Tell worker(s) to modify the rate limit for a task by type; that of pages is the whole fleet's.

    In the place of Celery's own command, and so behind `control.rate_limit`, `celery control rate_limit` and Flower's
    form. To one worker or to all: the rate is the same for all. 0 is refused: Celery takes it for no limit.
    """
    if task_name != PAGE:
        return control.rate_limit(state, task_name, rate_limit, **options)
    try:
        rate = Rate.parse(None if rate_limit is None else str(rate_limit))
        require_room(rate)
        before = state.consumer.set_fleet_rate(rate)
    except (UsageError, RedisError) as error:
        return control.nok(str(error))
    if before != rate:
        _note(state.consumer, before, rate)
    return control.ok(f"the rate of all workers together is {rate}")


def _note(consumer: Any, before: Rate, rate: Rate) -> None:
    """Let a child write the event: this process's loop must not wait for PostgreSQL.

    Of the workers that a broadcast reaches, one finds another rate in Redis than the one it sets: it has the event
    written. A message would do it too, but it would wait behind the pages that wait for the rate.
    """
    who = f"Celery's control, at {consumer.hostname}"
    consumer.pool.apply_async(note_rate, (before.text, rate.text, who), callback=_noted)


def _noted(_: None) -> None:
    """Nothing is left to do. Pools without processes call this unasked."""
