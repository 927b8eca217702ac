"""Fleet queries: the online workers, their rate, and the messages in the queue or owned by a worker."""

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

#: How long workers get to answer, in seconds. A worker's loop answers in milliseconds, even while all its children
#: work.
_PATIENCE = 1.0


def is_any_online(*, patience: float = _PATIENCE) -> bool:
    """Return whether any online worker takes this environment's pages; the first such answer is enough.

    Raises:
        UnreachableError: the broker does not answer.
    """
    return bool(_takers(patience, limit=1) or _takers(patience))


def workers() -> dict[str, str | None]:
    """Return the workers that take this environment's pages, each with its version, or None if it reports none.

    Workers of another version count too: they take pages from the queue of their own message format.

    Raises:
        UnreachableError: the broker does not answer.
    """
    online = _takers(_PATIENCE)
    answers = _ask("backfill_version", _PATIENCE) if online else {}
    return {worker: answer if isinstance(answer := answers.get(worker), str) else None for worker in sorted(online)}


def _takers(patience: float, *, limit: int | None = None) -> set[str]:
    """Return the workers that answer and consume one of this environment's page queues, of any message format."""
    ours = re.compile(re.escape(settings.load().queue) + r"(\.v\d+)?")
    return {
        worker
        for worker, queues in _ask("active_queues", patience, limit=limit).items()
        if isinstance(queues, list) and any(ours.fullmatch(str(queue.get("name"))) for queue in queues)
    }


def _ask(command: str, patience: float, *, limit: int | None = None) -> dict[str, Any]:
    """Return the workers' answers to a remote-control command, or only the first `limit` of them.

    Raises:
        UnreachableError: the broker does not answer.
    """
    try:
        answers = app.control.broadcast(command, reply=True, timeout=patience, limit=limit) or ()
    except (OperationalError, OSError) as error:
        raise UnreachableError(f"Redis can't be reached: {error}; see REDIS_URL") from None
    return {worker: answer for each in answers for worker, answer in each.items()}


def messages_on_their_way() -> set[str]:
    """Return the task ids of all messages that are queued for an online worker or owned by one, for whatever reason.

    Workers of another version have a queue of their own. A message there counts as long as one of those workers is
    online; once the last is gone, it is lost.
    """
    return _queued() | _held()


def _queued() -> set[str]:
    queues = {app.conf.task_default_queue, *_listened_to()}
    with app.connection_for_read() as connection, connection.channel() as channel:
        messages = [each for queue in queues for each in _asked(channel.client.lrange, queue, 0, -1, otherwise=[])]
    return {found for found in map(task_id, messages) if found is not None}


def _asked(ask: Callable[..., Any], *arguments: Any, otherwise: Any) -> Any:
    """Return Redis' answer, or `otherwise` if the key has a wrong type; a worker sets such a key aside."""
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
    return {task_id for answer in answers for owned in answer.values() for task_id in owned}


def waiting_for_the_rate() -> dict[str, list[str]]:
    """Return the online workers, each with the task ids of the pages waiting in it for the fleet's rate.

    Raises:
        UnreachableError: the broker does not answer.
    """
    try:
        answers = app.control.broadcast("backfill_waiting", reply=True, timeout=_PATIENCE) or ()
    except (OperationalError, OSError) as error:
        raise UnreachableError(f"Redis can't be reached: {error}; see REDIS_URL") from None
    # A worker of another version may not know the command.
    return {worker: pages for answer in answers for worker, pages in sorted(answer.items()) if isinstance(pages, list)}


def require_room(rate: Rate, *, more: int = 0) -> None:
    """Reject a rate so low that waiting pages would be redelivered before they start.

    Args:
        rate: the rate.
        more: how many messages will be sent in addition to those on their way.

    Raises:
        UsageError: the rate is too low; the text shows the arithmetic.
    """
    refuse_aging(
        rate,
        pages=max(1, _number_on_their_way() + more),
        page_seconds=app.conf.task_time_limit,
        redelivery_seconds=app.conf.broker_transport_options["visibility_timeout"],
    )


def _number_on_their_way() -> int:
    """Count the messages in the queue and those taken but not acknowledged, whether their worker is alive or not."""
    queue = app.conf.task_default_queue
    with app.connection_for_read() as connection, connection.channel() as channel:
        queued = int(_asked(channel.client.llen, queue, otherwise=0))
        taken = _asked(channel.client.hvals, channel.unacked_key, otherwise=[])
    return queued + len([entry for entry in taken if _way(entry) == queue])


def _way(entry: bytes) -> Any:
    """Return the queue of a message that a worker has taken, or None if the entry is junk."""
    try:
        _, _, routing_key = json.loads(entry)
    except (ValueError, TypeError, RecursionError):
        return None
    return routing_key


@inspect_command(default_timeout=_PATIENCE)  # type: ignore[untyped-decorator]
def backfill_version(state: Any) -> str:  # noqa: ARG001  Celery's own signature
    """Return the package version that this worker runs."""
    return __version__


@inspect_command(default_timeout=_PATIENCE)  # type: ignore[untyped-decorator]
def backfill_waiting(state: Any) -> list[str]:
    """Return the task ids of the pages that wait in this worker for the fleet's rate."""
    return [request.id for request, _ in state.consumer.task_buckets[PAGE].contents]


@inspect_command(default_timeout=_PATIENCE)  # type: ignore[untyped-decorator]
def backfill_holds(state: Any) -> list[str]:
    """Return the ids of the tasks this worker has taken and not finished: running, or waiting for an ETA or a rate."""
    consumer = state.consumer
    waiting = [entry.entry.args[0] for entry in consumer.timer.schedule.queue if entry.entry.args]
    waiting += [request for bucket in consumer.task_buckets.values() if bucket for request, _ in bucket.contents]
    # Not worker_state.requests: after a lost connection it still has requests that the worker no longer owns.
    waiting += [*worker_state.reserved_requests, *worker_state.active_requests]
    return list({each.id for each in waiting if isinstance(each, Request)})
