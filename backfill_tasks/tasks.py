"""The tasks: a page, and the watchdog. Thin: parse, call, say what came of it."""

import logging
from dataclasses import asdict
from functools import cache, partial
from typing import Any

from celery import Task
from celery.signals import worker_process_init
from celery.utils.log import get_task_logger
from sqlalchemy.exc import DBAPIError

from backfill_tasks import settings
from backfill_tasks.celery import app
from backfill_tasks.engine import ledger, schema
from backfill_tasks.engine.backfill import Raced
from backfill_tasks.engine.chain import Step
from backfill_tasks.engine.database import is_transient, reason
from backfill_tasks.engine.model import MESSAGE_FORMAT, PageMessage
from backfill_tasks.fleet import messages_on_their_way
from backfill_tasks.wiring import Parts, assemble

logger = get_task_logger(__name__)

#: The longest wait before a page is tried again, in seconds; the waits double up to it: 1, 2, 4 … 60.
_LONGEST_WAIT = 60

#: The header of a message that names its format.
_FORMAT = "backfill_format"


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
        headers={_FORMAT: MESSAGE_FORMAT},
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
    version = (self.request.headers or {}).get(_FORMAT, MESSAGE_FORMAT)
    if version > MESSAGE_FORMAT:
        return _leave_to_newer(self, fields, version)
    message = PageMessage(**fields)
    try:
        step = _parts().chain.step(message)
    except Raced:
        raise _try_again(self, message, "the host keeps changing the page's rows") from None
    except DBAPIError as error:
        if is_transient(error):
            raise _try_again(self, message, reason(error)) from None
        step = _parts().chain.stop(message, f"page {message.page}: {reason(error)}")
    if step.outcome == "stopped":
        raise LaneStopped(step.reason)
    summary = _summary(step)
    # A page that waits asks again every few seconds, for hours if it must: the log has it once.
    level = logging.DEBUG if message.waits and step.outcome == "put off" else logging.INFO
    said = " ".join(f"{key}={value}" for key, value in summary.items())
    logger.log(level, "page %s: %s %s", step.outcome, message, said)
    return {"outcome": step.outcome, **summary}


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


def _try_again(task: Task, message: PageMessage, why: str) -> Exception:
    """What to raise so that the page is tried again later, or its lane stops when that has been done often enough."""
    parts, most = _parts(), settings.load().page_retries
    if task.request.retries >= most:
        parts.chain.stop(message, f"page {message.page}: given up after {most} retries: {why}")
        return LaneStopped(f"{why}: given up after {most} retries")
    wait = min(_LONGEST_WAIT, 2**task.request.retries)
    logger.warning("page put off for %d s: %s: %s", wait, message, why)
    parts.chain.live.forgive(message)
    try:
        with parts.engine.begin() as connection:
            ledger.hold_back(connection, message, wait, f"page {message.page} waits for a retry: {why}")
    except DBAPIError:  # the database is away: that is why the page is put off, and nobody can read the ledger either
        logger.warning("the ledger can't be reached: %s", message)
    raise task.retry(exc=LaneStopped(why), countdown=wait)


def _summary(step: Step) -> dict[str, Any]:
    if step.page:
        return dict(step.page.result.counts)
    return {"reason": step.reason} if step.reason else {}


def note_rate(before: str, rate: str, who: str) -> None:
    """Note a change of the fleet's rate. No task: a worker gives it to a child, and the change holds without it."""
    note = partial(_parts().runs.note_all, "rate", {"rate": [before, rate]}, who=who)
    try:
        try:
            note()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            note()  # the server had ended the connection since it was last used; this one is new
    except DBAPIError as error:
        logger.warning("the rate is %s, not %s, but the ledger has no event of it: %s", rate, before, reason(error))


@app.task(name="backfill.watchdog")  # type: ignore[untyped-decorator]
def watchdog() -> dict[str, Any]:
    """Seed the lanes anew that stand still though nothing holds them back. Before the first run there are none."""
    config, parts = settings.load(), _parts()
    with parts.engine.begin() as connection:
        if not schema.version(connection):
            return {"seeded": []}
    seeded = parts.runs.watch_over(standing_seconds=config.standing_seconds, held=messages_on_their_way)
    return {"seeded": [f"{lane.run} lane {lane.lane}" for lane in seeded]}
