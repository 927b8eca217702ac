"""A stage's rate: in Redis, and as reported by its workers through Celery."""

from typing import Any

from celery import Celery
from faults.stage import Stage

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.rate import FleetRate

#: Too slow for a page to start during a test, but within the limit for a page's wait.
HALT = "2/h"


def fleet(stage: Stage) -> FleetRate:
    queue = stage.backfill.environment["BACKFILL_QUEUE"]
    return FleetRate(redis_client.connect(stage.backfill.environment["REDIS_URL"], patience=3), queue)


def ask(stage: Stage, command: str, *, only: list[str] | None = None, **arguments: Any) -> dict[str, Any]:
    """Return the answers of all workers, or only of these, to one of Celery's commands."""
    environment = stage.backfill.environment
    with Celery(broker=environment["REDIS_URL"], set_as_current=False) as app, app.connection() as connection:
        app.conf.control_exchange = environment["BACKFILL_QUEUE"]
        answers = app.control.broadcast(
            command,
            arguments,
            destination=only,
            reply=True,
            timeout=2.0,
            limit=len(only or stage.workers),
            connection=connection,
        )
    return {worker: content for answer in answers or () for worker, content in answer.items()}


def set_through_celery(stage: Stage, rate: str | float | None, *, of: str = "backfill.page") -> list[Any]:
    return list(ask(stage, "rate_limit", task_name=of, rate_limit=rate).values())


def waiting(stage: Stage) -> dict[str, int]:
    """Return the number of pages that wait for the rate, by worker."""
    return {worker: len(pages) for worker, pages in ask(stage, "backfill_waiting").items()}


def shown(stage: Stage) -> set[str]:
    """Return the rates that the workers report."""
    lines = [line for lines in ask(stage, "registered", taskinfoitems=["rate_limit"]).values() for line in lines]
    found = [line.partition("rate_limit=")[2].rstrip("]") for line in lines if line.startswith("backfill.page")]
    return set(found) if len(found) == len(stage.workers) else set()
