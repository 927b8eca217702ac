"""A query that is repeated in the background, so that its callers never wait for the answer."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Poll(Generic[T]):
    """Repeats a query in a daemon thread, which starts at once and ends with the process.

    Args:
        name: the subject of the query, for error messages.
        ask: the query; it is repeated even if it fails.
        every: the interval, in seconds.
        share: the maximum share of time that the query may take; a slow query is repeated less often.
        lasts: the maximum age of an answer, in seconds.
    """

    def __init__(self, name: str, ask: Callable[[], T], *, every: float, share: float = 1.0, lasts: float) -> None:
        self._ask, self._every, self._share, self._lasts = ask, every, share, lasts
        self._answer: tuple[float, T] | None = None
        self._error = f"{name}: no answer yet"
        threading.Thread(target=self._go_on, daemon=True).start()

    def _go_on(self) -> None:
        pause = threading.Event()
        while True:
            began = time.monotonic()
            try:
                answer = self._ask()
                self._answer = time.monotonic(), answer
            except Exception as error:  # noqa: BLE001  any failure is retried
                self._error = f"{type(error).__name__}: {error}"
            took = time.monotonic() - began
            pause.wait(max(self._every, took / self._share))

    def read(self) -> T:
        """Return the last answer.

        Raises:
            TimeoutError: there is none, or it is too old.
        """
        answer = self._answer
        if answer is None or time.monotonic() - answer[0] > self._lasts:
            raise TimeoutError(self._error)
        return answer[1]
