"""The workers that are online, and the messages that are on their way: in the queue, or in a living worker's hands."""

import json
from typing import Any

from celery.worker import state as worker_state
from celery.worker.control import inspect_command
from celery.worker.request import Request
from kombu.exceptions import OperationalError

from backfill_tasks.celery import app
from backfill_tasks.errors import UnreachableError

#: How long workers get to answer, in seconds. A worker's loop answers in milliseconds, even when all its children work.
_PATIENCE = 1.0


def is_any_online(*, patience: float = _PATIENCE) -> bool:
    """Whether a worker of this environment answers; the first answer is enough.

    Raises:
        UnreachableError: the broker does not answer.
    """
    try:
        return bool(app.control.ping(timeout=patience, limit=1))
    except (OperationalError, OSError) as error:
        raise UnreachableError(f"Redis can't be reached: {error}; see REDIS_URL") from None


def messages_on_their_way() -> set[str]:
    """The task ids of all messages that wait in the queue or that a living worker holds, for whatever reason."""
    return _queued() | _held()


def _queued() -> set[str]:
    with app.connection_for_read() as connection, connection.channel() as channel:
        messages = channel.client.lrange(app.conf.task_default_queue, 0, -1)
    return {json.loads(message)["headers"]["id"] for message in messages}


def _held() -> set[str]:
    answers = app.control.broadcast("backfill_holds", reply=True, timeout=_PATIENCE) or ()
    return {task_id for answer in answers for held in answer.values() for task_id in held}


@inspect_command(default_timeout=_PATIENCE)  # type: ignore[untyped-decorator]
def backfill_holds(state: Any) -> list[str]:
    """The ids of the tasks that this worker has taken and not finished: at work, or waiting for a time or a rate."""
    consumer = state.consumer
    waiting = [entry.entry.args[0] for entry in consumer.timer.schedule.queue if entry.entry.args]
    waiting += [request for bucket in consumer.task_buckets.values() if bucket for request, _ in bucket.contents]
    return [*worker_state.requests, *(each.id for each in waiting if isinstance(each, Request))]
