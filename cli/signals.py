"""The signals that ask a command to stop looking."""

import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stopped:
    """Whether Ctrl-C or SIGTERM came. Asked and waited for by the main thread.

    A signal may come at any instruction, so no lock may be taken for it: a `threading.Event` set by the handler of a
    signal deadlocks where its own `wait` holds the lock, and one waited for without an end misses a signal that comes
    just before the wait. Here the interpreter itself writes the signal's number to a socket (`signal.set_wakeup_fd`).
    """

    def __init__(self, wakeup: socket.socket) -> None:
        self._wakeup = wakeup
        self._came = False

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for one, so many seconds at the most, and answer whether it came."""
        if not self._came and select.select([self._wakeup], [], [], seconds)[0]:
            self._came = any(number in _STOPPING for number in self._wakeup.recv(4096))
        return self._came


@contextmanager
def signals() -> Iterator[Stopped]:
    """Take note of Ctrl-C and SIGTERM in place of ending the process, so that nothing is cut short."""
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
