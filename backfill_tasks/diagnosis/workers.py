"""Ask the workers which queues they consume, and what they are doing with each message that they own."""

from collections.abc import Mapping
from contextlib import suppress
from time import monotonic, time
from typing import Any

from celery.worker import state as worker_state
from celery.worker.control import inspect_command
from celery.worker.request import Request
from kombu.exceptions import OperationalError
from kombu.pidbox import Mailbox
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from backfill_tasks.diagnosis.facts import FleetView, WorkerView
from backfill_tasks.worker.app import app
from backfill_tasks.worker.consumer import PAGE
from backfill_tasks.worker.transport import Channel

#: How long workers get to answer, in seconds. A worker's loop answers in milliseconds; the rest allows for a busy
#: machine.
_PATIENCE = 2.5


class _CountingChannel(Channel):
    """A channel that counts how many clients a broadcast reached: a frozen worker is still connected."""

    reached = 0

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **_: Any) -> None:
        for topic in super()._get_publish_topics(exchange, routing_key):  # type: ignore[no-untyped-call]  # kombu's
            self.reached += self.client.publish(topic, dumps(message))  # type: ignore[no-untyped-call]
        if not self.reached:
            raise _AllAnsweredError


class _AllAnsweredError(Exception):
    """Every worker that the broadcast reached has answered; it may have reached none."""


def ask() -> FleetView:
    """Return the workers' view. A broker error becomes part of it."""
    answers: dict[str, Any] = {}
    # No producer pool: the broadcast must go through the counting channel.
    mailbox = Mailbox(app.conf.control_exchange, type="fanout", accept=["json"], serializer="json")  # type: ignore[no-untyped-call]
    try:
        with app.connection_for_write() as connection:
            connection.transport.Channel = _CountingChannel
            with connection.channel() as channel:

                def take(answer: Mapping[str, Any]) -> None:
                    answers.update(answer)
                    if len(answers) >= channel.reached:
                        raise _AllAnsweredError

                with suppress(_AllAnsweredError):
                    mailbox(connection).multi_call("backfill_view", timeout=_PATIENCE, callback=take, channel=channel)
                connected = channel.reached
    except (OperationalError, OSError, RedisError) as error:
        return FleetView(error=str(error) or type(error).__name__)
    return FleetView(connected=connected, workers={name: _parsed(answers[name]) for name in sorted(answers)})


def _parsed(answer: Any) -> WorkerView | None:
    if not isinstance(answer, dict) or "working" not in answer:
        return None
    return WorkerView(
        queues=tuple(answer["queues"]),
        processes=answer["processes"],
        working=answer["working"],
        later=answer["later"],
        for_rate=frozenset(answer["for_rate"]),
        waiting=frozenset(answer["waiting"]),
    )


@inspect_command(default_timeout=_PATIENCE)  # type: ignore[untyped-decorator]
def backfill_view(state: Any) -> dict[str, Any]:
    """Return the queues that this worker consumes, and its messages: running, waiting, or due later."""
    consumer, now = state.consumer, time()
    working = {each.id: now - (each.time_start or now) for each in list(worker_state.active_requests)}
    bucket = consumer.task_buckets[PAGE]
    for_rate = [request.id for request, _ in bucket.contents] if bucket else []
    scheduled = [(each.eta - monotonic(), each.entry.args) for each in list(consumer.timer.schedule.queue)]
    later = {args[0].id: max(0.0, wait) for wait, args in scheduled if args and isinstance(args[0], Request)}
    known = {*working, *for_rate, *later}
    queues = consumer.task_consumer.queues if consumer.task_consumer else ()
    return {
        "queues": [queue.name for queue in queues],
        "processes": consumer.pool.num_processes if consumer.pool else 0,
        "working": working,
        "later": later,
        "for_rate": for_rate,
        "waiting": [each.id for each in list(worker_state.reserved_requests) if each.id not in known],
    }
