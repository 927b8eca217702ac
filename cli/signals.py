"""Ctrl-C and SIGTERM as a request to stop watching."""

import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stopped:
    """Whether Ctrl-C or SIGTERM arrived. Only the main thread may wait for it.

    A signal can arrive at any instruction, so its handler must take no lock. A `threading.Event` set in a handler
    deadlocks if its own `wait` has the lock, and an endless wait misses a signal that arrives just before it. Here
    the interpreter itself writes the signal's number to a socket (`signal.set_wakeup_fd`).
    """

    def __init__(self, wakeup: socket.socket) -> None:
        self._wakeup = wakeup
        self._came = False

    def wait(self, seconds: float | None = None) -> bool:
        """Wait up to `seconds` for a signal and return whether one has arrived. None: wait without limit."""
        if not self._came and select.select([self._wakeup], [], [], seconds)[0]:
            self._came = any(number in _STOPPING for number in self._wakeup.recv(4096))
        return self._came


@contextmanager
def signals() -> Iterator[Stopped]:
    """Record Ctrl-C and SIGTERM while the block runs, so that they interrupt nothing."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)  # noqa: FBT003  its only, positional argument
    with reader, writer:
        before = {number: signal.signal(number, lambda _number, _frame: None) for number in _STOPPING}
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield Stopped(reader)
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
