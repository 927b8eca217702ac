"""The tasks: a page, and the watchdog. They only parse, call the engine, and report the outcome."""

import gc
import logging
from dataclasses import asdict
from functools import cache
from typing import Any

from celery import Task
from celery.signals import worker_init, worker_process_init
from celery.utils.log import get_task_logger
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from backfill_tasks import settings
from backfill_tasks.drain.session import look_after
from backfill_tasks.engine import heartbeat, schema
from backfill_tasks.engine.chain import SendError, Step, Tries
from backfill_tasks.engine.database import reason
from backfill_tasks.engine.model import MESSAGE_FORMAT, PageMessage
from backfill_tasks.escaping import shown
from backfill_tasks.registry import KINDS
from backfill_tasks.wiring import Parts, assemble
from backfill_tasks.worker.app import app
from backfill_tasks.worker.consumer import FORMAT
from backfill_tasks.worker.fleet import messages_on_their_way
from backfill_tasks.worker.scoring import look_after_slots

logger = get_task_logger(__name__)

#: The header that counts how many of a message's retries were caused by an outage.
_OUTAGES = "backfill_outages"

#: Raised by Redis' client, by kombu, and by our own send. All of these faults pass.
_REDIS_TROUBLE = (RedisError, OperationalError, SendError)


class LaneStopped(Exception):  # noqa: N818  the end of a lane, shown by Flower as the task's failure
    """A page failed for good and its lane has stopped. The text says why; Flower's list has room for nothing else."""

    def __repr__(self) -> str:
        return str(self)


def send(message: PageMessage, delay: float) -> None:
    """Send a page's message. In Flower, `kwargs:lane=2 kwargs:page=7` finds it.

    Raises:
        SendError: the broker is unreachable or refuses.
    """
    _send(message, countdown=delay or None, headers={FORMAT: MESSAGE_FORMAT})


def _send(message: PageMessage, **options: Any) -> None:
    fields = asdict(message)
    try:
        # With the representation given, Celery doesn't walk through the arguments to make one.
        page.apply_async(kwargs=fields, kwargsrepr=repr(fields), task_id=message.task_id, **options)
    except (RedisError, OperationalError) as error:
        raise SendError(str(error) or type(error).__name__) from error


@cache
def _parts() -> Parts:
    """Return this process's connections; created on first use, so that no child inherits its parent's."""
    return assemble(settings.load(), send)


@worker_init.connect  # type: ignore[untyped-decorator]
def _import_backfills(**_: object) -> None:
    """Import the backfills before the children are forked: they share the memory, and no first page waits for it."""
    KINDS.usable()


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _assemble_early(**_: object) -> None:
    """Assemble a new child's own chain before its first page; it connects on first use."""
    _parts.cache_clear()
    _parts().assemble_early()
    gc.freeze()  # what is loaded by now stays: no collection during a page walks through it


@app.task(bind=True, name="backfill.page", max_retries=None)  # type: ignore[untyped-decorator]
def page(self: Task, **fields: Any) -> dict[str, Any]:
    """Process one page of a lane and send the next page's message. Idempotent: any number of deliveries is safe.

    The fields are those of a PageMessage. A message of a newer format is forwarded unread to a newer worker.
    """
    version = (self.request.headers or {}).get(FORMAT, MESSAGE_FORMAT)
    if version > MESSAGE_FORMAT:
        return _leave_to_newer(self, fields, version)
    message = PageMessage.parse(fields)
    tries = Tries(self.request.retries, int((self.request.headers or {}).get(_OUTAGES, 0)))
    return _report(self, message, _parts().chain.step(message, tries))


def _report(task: Task, message: PageMessage, step: Step) -> dict[str, Any]:
    """Return a step as the task's result, which Flower shows, or raise if the page failed.

    Raises:
        LaneStopped: the lane has stopped.
        Retry: Celery will send the message again.
    """
    if step.outcome == "stopped":
        raise LaneStopped(step.reason)
    if step.outcome == "retry":
        headers = {**(task.request.headers or {}), _OUTAGES: step.outages}
        raise task.retry(exc=LaneStopped(step.reason), countdown=step.delay, headers=headers)
    summary = _summary(step)
    if step.delay is not None:
        _send_again(task, message, step.delay)
    else:
        # A postponed page asks again every few seconds, possibly for hours: it is logged once at INFO level.
        level = logging.DEBUG if message.waits and step.outcome == "put off" else logging.INFO
        said = " ".join(f"{key}={value}" for key, value in summary.items())
        logger.log(level, "page %s: %s %s", step.outcome, message, said)
    return {"outcome": step.outcome, **summary}


def _send_again(task: Task, message: PageMessage, delay: int) -> None:
    """Send a message again unchanged, without counting a retry; if that fails, the watchdog reseeds the lane."""
    headers = {**(task.request.headers or {}), FORMAT: MESSAGE_FORMAT}
    try:
        _send(message, countdown=delay, headers=headers, retries=task.request.retries)
    except SendError as error:
        logger.warning("page not sent, so the watchdog will reseed its lane: %s: %s", message, shown(str(error)))


def _leave_to_newer(task: Task, fields: dict[str, Any], version: int) -> dict[str, Any]:
    """Forward a message unchanged to the queue of its format, where newer workers find it.

    It is delayed by one second, so that an old worker that was configured to consume that queue too doesn't forward the
    message to itself in a tight loop.
    """
    queue = settings.load().queue_of_format(version)
    task.apply_async(kwargs=fields, task_id=task.request.id, queue=queue, countdown=1, headers=task.request.headers)
    logger.warning(
        "this worker is too old for a page and forwards it to a newer worker: task=%s queue=%s", task.request.id, queue
    )
    return {
        "outcome": "left to a newer worker",
        "reason": f"its format is {version}, but this worker knows {MESSAGE_FORMAT}",
    }


def _summary(step: Step) -> dict[str, Any]:
    if step.page:
        return dict(step.page.result.counts)
    return {"reason": step.reason} if step.reason else {}


def note_rate(before: str, rate: str, who: str) -> None:
    """Record a change of the fleet's rate; if that fails, the rate applies all the same.

    Not a task: a worker hands it to a child.
    """
    try:
        _parts().runs.note_all("rate", {"rate": [before, rate]}, who=who)
    except DBAPIError as error:
        logger.warning(
            "the rate is now %s, was %s, but the ledger couldn't record the event: %s", rate, before, reason(error)
        )


@app.task(name="backfill.watchdog")  # type: ignore[untyped-decorator]
def watchdog() -> dict[str, Any]:
    """Look after the lanes. Workers do so on beat's message (worker/watchdog.py); this task serves older beats."""
    return {"seeded": look_after_lanes()}


def look_after_lanes() -> list[str]:
    """Reseed stalled lanes and scoring slots, and return them. Before the first run there are none.

    If PostgreSQL or Redis can't be used, log that and return nothing.
    """
    engine = _parts().engine
    try:
        return _watch_over()
    except DBAPIError as error:
        logger.warning("the watchdog can't check the lanes, so it tries again on its next pass: %s", reason(error))
    except _REDIS_TROUBLE as error:  # the next pass finds the lanes that this one has not reseeded
        logger.warning("Redis can't be used, so the watchdog tries again on its next pass: %s", shown(str(error)))
    finally:
        engine.dispose()  # a worker's main process keeps no connection between passes
    return []


def _watch_over() -> list[str]:
    config, parts = settings.load(), _parts()
    heartbeat.beat(config.redis_url, config.queue)
    seeded = parts.watchdog.look(stalled_seconds=config.standing_seconds, on_their_way=messages_on_their_way)
    lanes = [f"{lane.run} lane {lane.lane}" for lane in seeded]
    with parts.engine.begin() as connection:
        is_current = schema.version(connection) == schema.latest()
    # A ledger that is still to be migrated has no sessions.
    return [*lanes, *look_after_slots()] if is_current else lanes


def look_after_drain() -> None:
    """Call the host's runner, if the drain is on and no other worker does. If PostgreSQL can't be used, log that."""
    try:
        look_after(_parts(), settings.load())
    except DBAPIError as error:
        logger.warning("the drain can't use PostgreSQL, so it tries again on its next pass: %s", reason(error))
    finally:
        _parts().engine.dispose()
