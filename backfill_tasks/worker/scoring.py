"""The task that does one batch of `backfill work`. It only parses, calls the chain, and reports the outcome."""

import logging
from dataclasses import asdict
from functools import cache
from typing import Any

from celery import Task
from celery.signals import worker_process_init
from celery.utils.log import get_task_logger
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from backfill_tasks import settings
from backfill_tasks.engine.chain import SendError
from backfill_tasks.escaping import shown
from backfill_tasks.scoring.assembly import assemble
from backfill_tasks.scoring.message import ScoreMessage
from backfill_tasks.scoring.work import Step, Work
from backfill_tasks.worker.app import app
from backfill_tasks.worker.fleet import messages_on_their_way

logger = get_task_logger(__name__)


def send(message: ScoreMessage, delay: float) -> None:
    """Send a batch's message. In Flower, `kwargs:slot=2` finds it.

    Raises:
        SendError: the broker is unreachable or refuses.
    """
    try:
        score.apply_async(kwargs=asdict(message), task_id=message.task_id, countdown=delay or None)
    except (RedisError, OperationalError) as error:
        raise SendError(str(error) or type(error).__name__) from error


@cache
def _work() -> Work:
    """Return this process's connections; created on first use, so that no child inherits its parent's."""
    return assemble(settings.load(), send)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _forget_the_parents(**_: object) -> None:
    """Have a new child make its own connections."""
    _work.cache_clear()


@app.task(bind=True, name="backfill.score", max_retries=None)  # type: ignore[untyped-decorator]
def score(self: Task, session: str, slot: int, generation: int, batch: int) -> dict[str, Any]:  # noqa: ARG001  Celery's
    """Score one batch of jobs and send the slot's next message. Idempotent: any number of deliveries is safe."""
    message = ScoreMessage(session, slot, generation, batch)
    step = _work().step(message)
    if step.delay is not None:
        _send_again(message, step.delay)
    summary = _summary(step)
    said = " ".join(f"{key}={value}" for key, value in summary.items())
    # A slot that waits says so every few seconds, possibly for hours.
    logger.log(
        logging.DEBUG if step.outcome == "waits" and not step.written.ended else logging.INFO,
        "batch %s: %s %s",
        step.outcome,
        message.task_id,
        said,
    )
    return {"outcome": step.outcome, **summary}


def look_after_slots() -> list[str]:
    """Release abandoned jobs and reseed slots that lost their chain; return those."""
    work = _work()
    try:
        return [f"{each.session} slot {each.slot}" for each in work.watch_over(messages_on_their_way)]
    finally:
        work.engine.dispose()  # a worker's main process keeps no connection between passes


def _send_again(message: ScoreMessage, delay: float) -> None:
    """Send a message again; if that fails, the watchdog reseeds the slot."""
    try:
        send(message, delay)
    except SendError as error:
        logger.warning(
            "batch not sent, so the watchdog will reseed its slot: %s: %s", message.task_id, shown(str(error))
        )


def _summary(step: Step) -> dict[str, Any]:
    counts = {name: number for name, number in asdict(step.written).items() if number}
    return {**counts, **({"reason": step.reason} if step.reason else {})}
