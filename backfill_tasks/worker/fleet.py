"""The workers that are online, their rate, and the messages on their way: in the queue, or in a worker's hands."""

import json
import re
from collections.abc import Callable
from typing import Any

from celery.worker import state as worker_state
from celery.worker.control import inspect_command
from celery.worker.request import Request
from kombu.exceptions import OperationalError
from redis.exceptions import ResponseError

from backfill_tasks import __version__, settings
from backfill_tasks.engine.rate import Rate, refuse_aging
from backfill_tasks.engine.redis_client import is_wrong_type
from backfill_tasks.errors import UnreachableError
from backfill_tasks.worker.app import app
from backfill_tasks.worker.consumer import PAGE
from backfill_tasks.worker.envelope import task_id

#: How long workers get to answer, in seconds. A worker's loop answers in milliseconds, even when all its children work.
_PATIENCE = 1.0


def is_any_online(*, patience: float = _PATIENCE) -> bool:
    """Whether a worker answers that takes this environment's pages; the first such answer is enough.

    Raises:
        UnreachableError: the broker does not answer.
    """
    return bool(_takers(patience, limit=1) or _takers(patience))


def workers() -> dict[str, str | None]:
    """The workers that take this environment's pages, each with its version; None: one that does not tell.

    A worker of another version takes pages from the queue of its own message format, and counts.

    Raises:
        UnreachableError: the broker does not answer.
    """
    online = _takers(_PATIENCE)
    answers = _ask("backfill_version", _PATIENCE) if online else {}
    return {worker: answer if isinstance(answer := answers.get(worker), str) else None for worker in sorted(online)}


def _takers(patience: float, *, limit: int | None = None) -> set[str]:
    """The workers that answer and consume a queue of this environment's pages, of whatever format."""
    ours = re.compile(re.escape(settings.load().queue) + r"(\.v\d+)?")
    return {
        worker
        for worker, queues in _ask("active_queues", patience, limit=limit).items()
        if isinstance(queues, list) and any(ours.fullmatch(str(queue.get("name"))) for queue in queues)
    }


def _ask(command: str, patience: float, *, limit: int | None = None) -> dict[str, Any]:
    """The answers of all workers to a remote command, or of the first ones.

    Raises:
        UnreachableError: the broker does not answer.
    """
    try:
        answers = app.control.broadcast(command, reply=True, timeout=patience, limit=limit) or ()
    except (OperationalError, OSError) as error:
        raise UnreachableError(f"Redis can't be reached: {error}; see REDIS_URL") from None
    return {worker: answer for each in answers for worker, answer in each.items()}


def messages_on_their_way() -> set[str]:
    """The task ids of all messages that wait for a living worker or that one holds, for whatever reason.

    Workers of another version have a queue of their own. A message that waits there will be taken as long as one of
    them lives; when the last is gone, it is lost.
    """
    return _queued() | _held()


def _queued() -> set[str]:
    queues = {app.conf.task_default_queue, *_listened_to()}
    with app.connection_for_read() as connection, connection.channel() as channel:
        messages = [each for queue in queues for each in _asked(channel.client.lrange, queue, 0, -1, otherwise=[])]
    return {found for found in map(task_id, messages) if found is not None}


def _asked(ask: Callable[..., Any], *arguments: Any, otherwise: Any) -> Any:
    """What Redis answers; otherwise, where the key has a wrong type: a worker sets it aside."""
    try:
        return ask(*arguments)
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        return otherwise


def _listened_to() -> set[str]:
    answers = app.control.inspect(timeout=_PATIENCE).active_queues() or {}
    return {queue["name"] for queues in answers.values() for queue in queues}


def _held() -> set[str]:
    answers = app.control.broadcast("backfill_holds", reply=True, timeout=_PATIENCE) or ()
    return {task_id for answer in answers for held in answer.values() for task_id in held}


def waiting_for_the_rate() -> dict[str, list[str]]:
    """The workers that are online, each with the task ids of the pages that wait in it for the fleet's rate.

    Raises:
        UnreachableError: the broker does not answer.
    """
    try:
        answers = app.control.broadcast("backfill_waiting", reply=True, timeout=_PATIENCE) or ()
    except (OperationalError, OSError) as error:
        raise UnreachableError(f"Redis can't be reached: {error}; see REDIS_URL") from None
    # A worker of another version may not know the question.
    return {worker: pages for answer in answers for worker, pages in sorted(answer.items()) if isinstance(pages, list)}


def require_room(rate: Rate, *, more: int = 0) -> None:
    """Refuse a rate so low that pages which wait for it would be delivered twice.

    Args:
        rate: the rate.
        more: how many messages will be sent beside those that are on their way.

    Raises:
        UsageError: with the arithmetic.
    """
    refuse_aging(
        rate,
        pages=max(1, _number_on_their_way() + more),
        page_seconds=app.conf.task_time_limit,
        redelivery_seconds=app.conf.broker_transport_options["visibility_timeout"],
    )


def _number_on_their_way() -> int:
    """Messages in the queue, and those taken and not acknowledged, whether their worker lives or not."""
    queue = app.conf.task_default_queue
    with app.connection_for_read() as connection, connection.channel() as channel:
        queued = int(_asked(channel.client.llen, queue, otherwise=0))
        taken = _asked(channel.client.hvals, channel.unacked_key, otherwise=[])
    return queued + len([entry for entry in taken if _way(entry) == queue])


def _way(entry: bytes) -> Any:
    """The queue of a message that a worker has taken; None where the entry is junk."""
    try:
        _, _, routing_key = json.loads(entry)
    except (ValueError, TypeError, RecursionError):
        return None
    return routing_key


@inspect_command(default_timeout=_PATIENCE)  # type: ignore[untyped-decorator]
def backfill_version(state: Any) -> str:  # noqa: ARG001  Celery's own signature
    """The version of the package that this worker runs."""
    return __version__


@inspect_command(default_timeout=_PATIENCE)  # type: ignore[untyped-decorator]
def backfill_waiting(state: Any) -> list[str]:
    """The task ids of the pages that wait in this worker for the fleet's rate."""
    return [request.id for request, _ in state.consumer.task_buckets[PAGE].contents]


@inspect_command(default_timeout=_PATIENCE)  # type: ignore[untyped-decorator]
def backfill_holds(state: Any) -> list[str]:
    """The ids of the tasks that this worker has taken and not finished: at work, or waiting for a time or a rate."""
    consumer = state.consumer
    waiting = [entry.entry.args[0] for entry in consumer.timer.schedule.queue if entry.entry.args]
    waiting += [request for bucket in consumer.task_buckets.values() if bucket for request, _ in bucket.contents]
    # Not worker_state.requests: after a lost connection it keeps requests that the worker no longer has.
    waiting += [*worker_state.reserved_requests, *worker_state.active_requests]
    return list({each.id for each in waiting if isinstance(each, Request)})
