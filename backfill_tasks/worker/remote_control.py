"""Celery's `rate_limit` for pages: it sets the rate of the whole fleet, and the ledger records who did it."""

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
    """Tell worker(s) to modify the rate limit for a task by type; for pages, set the rate of the whole fleet.

    It replaces Celery's own command, and so serves `control.rate_limit`, `celery control rate_limit` and Flower's form.
    Sent to one worker or to all, it sets the same rate for all. 0 is rejected: Celery treats it as no limit.
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
    """Have a child write the event: this process's loop must not wait for PostgreSQL.

    Of all workers that a broadcast reaches, only one finds a different rate in Redis than the one it sets; that one has
    the event written. A message would also work, but it would wait behind the pages that wait for the rate.
    """
    who = f"Celery's control, at {consumer.hostname}"
    consumer.pool.apply_async(note_rate, (before.text, rate.text, who), callback=_noted)


def _noted(_: None) -> None:
    """Do nothing: pools without processes call the callback unconditionally."""
