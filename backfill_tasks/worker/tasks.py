"""The tasks: a page, and the watchdog. Thin: parse, call, say what came of it."""

import logging
from dataclasses import asdict
from functools import cache
from typing import Any

from celery import Task
from celery.signals import worker_process_init
from celery.utils.log import get_task_logger
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from backfill_tasks import settings
from backfill_tasks.engine import heartbeat, ledger, schema
from backfill_tasks.engine.chain import Step
from backfill_tasks.engine.contract import RowChanged
from backfill_tasks.engine.database import is_outage, is_transient, reason
from backfill_tasks.engine.model import MESSAGE_FORMAT, PageMessage
from backfill_tasks.wiring import Parts, assemble
from backfill_tasks.worker.app import app
from backfill_tasks.worker.consumer import FORMAT
from backfill_tasks.worker.dead_letters import shown
from backfill_tasks.worker.fleet import messages_on_their_way

logger = get_task_logger(__name__)

#: The longest wait before a page is tried again, in seconds; the waits double up to it: 1, 2, 4 … 60.
_LONGEST_WAIT = 60

#: The longest while the database is away: a lane moves again within this time of its return.
_LONGEST_OUTAGE_WAIT = 8

#: The header of a message that counts how many of its retries were because of an outage.
_OUTAGES = "backfill_outages"

#: How long a page waits for a Redis that doesn't answer or refuses to write, in seconds.
_REDIS_WAIT = 5

#: What Redis' own client raises, and kombu. All of it passes: a refused write (READONLY, OOM, MISCONF, LOADING), too.
_REDIS_TROUBLE = (RedisError, OperationalError)


class LaneStopped(Exception):  # noqa: N818  a lane's end, shown by Flower as the task's failure
    """A page can't be done and its lane has stopped. The text says why; it is all that Flower's list has room for."""

    def __repr__(self) -> str:
        return str(self)


def send(message: PageMessage, delay: float) -> None:
    """Put a page's message on its way; in Flower `kwargs:lane=2 kwargs:page=7` finds it."""
    page.apply_async(
        kwargs=asdict(message),
        task_id=message.task_id,
        countdown=delay or None,
        headers={FORMAT: MESSAGE_FORMAT},
    )


@cache
def _parts() -> Parts:
    """This process's connections; made when first needed, so that no child inherits its parent's."""
    return assemble(settings.load(), send)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _assemble_early(**_: object) -> None:
    """A new child makes its own parts before its first page; it connects when it first needs to."""
    _parts.cache_clear()
    _parts()


@app.task(bind=True, name="backfill.page", max_retries=None)  # type: ignore[untyped-decorator]
def page(self: Task, **fields: Any) -> dict[str, Any]:
    """One page of a lane, and the message of the next. Safe to deliver any number of times.

    The fields are those of a PageMessage. A message of a newer format is not looked into but left to a newer worker.
    """
    version = (self.request.headers or {}).get(FORMAT, MESSAGE_FORMAT)
    if version > MESSAGE_FORMAT:
        return _leave_to_newer(self, fields, version)
    message = PageMessage.parse(fields)
    try:
        return _do(self, message)
    except _REDIS_TROUBLE as error:
        return _wait_for_redis(self, message, error)


def _do(task: Task, message: PageMessage) -> dict[str, Any]:
    try:
        step = _parts().chain.step(message)
    except RowChanged:
        raise _try_again(task, message, "the host keeps changing the page's rows") from None
    except DBAPIError as error:
        step = _failed(task, message, error)
    if step.outcome == "stopped":
        raise LaneStopped(step.reason)
    summary = _summary(step)
    # A page that waits asks again every few seconds, for hours if it must: the log has it once.
    level = logging.DEBUG if message.waits and step.outcome == "put off" else logging.INFO
    said = " ".join(f"{key}={value}" for key, value in summary.items())
    logger.log(level, "page %s: %s %s", step.outcome, message, said)
    return {"outcome": step.outcome, **summary}


def _wait_for_redis(task: Task, message: PageMessage, error: Exception) -> dict[str, Any]:
    """Send the page's message again, because Redis doesn't answer or refuses to write: that passes.

    The lane isn't failed, however long it takes: this doesn't count as one of the page's retries. A page that was
    committed already is done once, and its message, when it comes again, sends the next. Where not even this message
    can be sent, the watchdog seeds the lane again once Redis is back.
    """
    why = f"Redis can't be used: {shown(str(error)) or type(error).__name__}"
    logger.warning("page put off for %d s: %s: %s", _REDIS_WAIT, message, why)
    try:
        with _parts().engine.begin() as connection:
            ledger.hold_back(connection, message, _REDIS_WAIT, f"page {message.page} waits: {why}")
    except DBAPIError as trouble:
        logger.warning("the ledger can't be written to: %s: %s", message, reason(trouble))
    try:
        task.apply_async(
            kwargs=asdict(message),
            task_id=message.task_id,
            countdown=_REDIS_WAIT,
            headers={**(task.request.headers or {}), FORMAT: MESSAGE_FORMAT},
            retries=task.request.retries,
        )
    except _REDIS_TROUBLE as trouble:
        logger.warning("page not sent, the watchdog will: %s: %s", message, shown(str(trouble)))
    return {"outcome": "put off", "reason": why}


def _leave_to_newer(task: Task, fields: dict[str, Any], version: int) -> dict[str, Any]:
    """Put a message as it is into the queue of its format, where newer workers find it.

    It waits for a second first: an old worker that was told to listen there too does not send it in circles at speed.
    """
    queue = settings.load().queue_of_format(version)
    task.apply_async(kwargs=fields, task_id=task.request.id, queue=queue, countdown=1, headers=task.request.headers)
    logger.warning("page left to a newer worker: %s goes to %s", task.request.id, queue)
    return {
        "outcome": "left to a newer worker",
        "reason": f"its format is {version}, this worker knows {MESSAGE_FORMAT}",
    }


def _failed(task: Task, message: PageMessage, error: DBAPIError) -> Step:
    """Stop the lane after a lasting database error; after a passing one, raise what tries the page again."""
    if is_transient(error):
        raise _try_again(task, message, reason(error), outage=is_outage(error)) from None
    return _stop(task, message, f"page {message.page}: {reason(error)}")


def _stop(task: Task, message: PageMessage, why: str) -> Step:
    """Stop a lane; raise what tries its page again if the ledger can't be written now, so that the lane can't stop."""
    try:
        return _parts().chain.stop(message, why)
    except DBAPIError as error:
        raise _try_again(task, message, reason(error), outage=True) from None


def _try_again(task: Task, message: PageMessage, why: str, *, outage: bool = False) -> Exception:
    """Return what to raise so that the page is tried again later, or its lane stops after enough attempts.

    An outage of the database uses up no attempts: its end is not for the run to guess, and needs no operator.
    """
    parts, most = _parts(), settings.load().page_retries
    headers = task.request.headers or {}
    outages = int(headers.get(_OUTAGES, 0))
    attempts = task.request.retries - outages
    if attempts >= most and not outage:
        _stop(task, message, f"page {message.page}: given up after {most} retries: {why}")
        return LaneStopped(f"{why}: given up after {most} retries")
    longest, before = (_LONGEST_OUTAGE_WAIT, outages) if outage else (_LONGEST_WAIT, attempts)
    wait = min(longest, 2 ** min(before, 10))
    logger.warning("page put off for %d s: %s: %s", wait, message, why)
    parts.chain.live.reset_attempts(message)
    try:
        with parts.engine.begin() as connection:
            ledger.hold_back(connection, message, wait, f"page {message.page} waits for a retry: {why}")
    except DBAPIError as error:
        logger.warning("the ledger doesn't know that the page waits: %s: %s", message, reason(error))
    counted = {**headers, _OUTAGES: outages + outage}
    raise task.retry(exc=LaneStopped(why), countdown=wait, headers=counted)


def _summary(step: Step) -> dict[str, Any]:
    if step.page:
        return dict(step.page.result.counts)
    return {"reason": step.reason} if step.reason else {}


def note_rate(before: str, rate: str, who: str) -> None:
    """Note a change of the fleet's rate. No task: a worker gives it to a child, and the change holds without it."""
    try:
        _parts().runs.note_all("rate", {"rate": [before, rate]}, who=who)
    except DBAPIError as error:
        logger.warning("the rate is %s, not %s, but the ledger has no event of it: %s", rate, before, reason(error))


@app.task(name="backfill.watchdog")  # type: ignore[untyped-decorator]
def watchdog() -> dict[str, Any]:
    """Look after the lanes. Workers do so when beat says it (worker/watchdog.py); the task is for older beats."""
    return {"seeded": look_after_lanes()}


def look_after_lanes() -> list[str]:
    """Seed the lanes anew that stand still though nothing holds them back. Before the first run there are none."""
    engine = _parts().engine
    try:
        return _watch_over()
    except DBAPIError as error:
        logger.warning("the watchdog can't look after the lanes now: %s", reason(error))
    except _REDIS_TROUBLE as error:  # the next watchdog finds the lanes that this one has not seeded
        logger.warning("the watchdog waits, Redis can't be used: %s", shown(str(error)))
    finally:
        engine.dispose()  # a worker's main process keeps no connection between two looks
    return []


def _watch_over() -> list[str]:
    config, parts = settings.load(), _parts()
    heartbeat.beat(config.redis_url, config.queue)
    with parts.engine.begin() as connection:
        if not schema.version(connection):
            return []
    seeded = parts.runs.watch_over(stalled_seconds=config.standing_seconds, held=messages_on_their_way)
    return [f"{lane.run} lane {lane.lane}" for lane in seeded]
