"""Replies to remote control commands, which must not block the worker."""

from typing import Any

from celery.app import control
from kombu import pidbox
from kombu.messaging import Producer


class _Once(Producer):
    """Publishes each message once."""

    def publish(self, *arguments: Any, **options: Any) -> Any:
        """Publish, and leave an error to the caller."""
        options["retry"] = False
        return super().publish(*arguments, **options)  # type: ignore[no-untyped-call]


class Mailbox(pidbox.Mailbox):
    """Sends each reply once, over the connection that brought the command.

    kombu repeats a reply until Redis accepts it, in the worker's loop. A worker that got a command just before Redis
    went away, or refused new connections, stalled without a log line until Redis was back. Here the error reaches the
    loop, and the worker reconnects.

    Weakness: the caller gets no reply. It waits no longer than its own time-out.
    """

    def _publish_reply(self, *arguments: Any, channel: Any = None, producer: Any = None, **options: Any) -> None:
        once = producer or _Once(channel, auto_declare=False)  # type: ignore[no-untyped-call]
        super()._publish_reply(*arguments, channel=channel, producer=once, **options)  # type: ignore[misc,no-untyped-call]


class Control(control.Control):  # type: ignore[misc]  # Celery has no types
    """Celery's remote control with our mailbox."""

    Mailbox = Mailbox
