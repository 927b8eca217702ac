"""Which messages a worker reports as its own."""

import uuid
from types import SimpleNamespace

from celery.worker import state
from celery.worker.request import Request
from kombu.message import Message

from backfill_tasks.worker.app import app
from backfill_tasks.worker.fleet import backfill_holds
from backfill_tasks.worker.tasks import page


class TestHolds:
    def test_requeued_message_is_not_reported(self) -> None:
        lost, reserved = request(), request()
        state.task_reserved(lost)
        state.reserved_requests.clear()  # what Celery's Consumer.on_close does when the connection is lost
        state.task_reserved(reserved)

        held = backfill_holds(worker())

        assert held == [reserved.id]
        state.reset_state()

    def test_page_in_flight_is_reported(self) -> None:
        at_work = request()
        state.task_accepted(at_work)

        assert backfill_holds(worker()) == [at_work.id]
        state.reset_state()


def request() -> Request:
    headers = {"id": str(uuid.uuid4()), "task": page.name, "lang": "py"}
    message = Message(body="[[], {}, {}]", headers=headers, content_type="application/json", content_encoding="utf-8")
    return Request(message, app=app, task=page, headers=headers)


def worker() -> SimpleNamespace:
    """Return a worker in which no task waits for a time or a rate."""
    timer = SimpleNamespace(schedule=SimpleNamespace(queue=[]))
    return SimpleNamespace(consumer=SimpleNamespace(timer=timer, task_buckets={}))
