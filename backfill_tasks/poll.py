"""A question that is asked again and again, so that nobody has to wait for its answer."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Poll(Generic[T]):
    """Asks in a thread of its own, which begins at once and ends with the process.

    Args:
        name: what is asked for, as errors name it.
        ask: the question; whatever fails in it, it is asked again.
        every: how often, in seconds.
        share: how much of the time it may take; a question that takes longer is asked more seldom.
        lasts: how old an answer may get, in seconds, before it is none.
    """

    def __init__(self, name: str, ask: Callable[[], T], *, every: float, share: float = 1.0, lasts: float) -> None:
        self._ask, self._every, self._share, self._lasts = ask, every, share, lasts
        self._answer: tuple[float, T] | None = None
        self._error = f"{name}: nobody was asked yet"
        threading.Thread(target=self._go_on, daemon=True).start()

    def _go_on(self) -> None:
        pause = threading.Event()
        while True:
            began = time.monotonic()
            try:
                answer = self._ask()
                self._answer = time.monotonic(), answer
            except Exception as error:  # noqa: BLE001  whatever fails, it is asked again
                self._error = f"{type(error).__name__}: {error}"
            took = time.monotonic() - began
            pause.wait(max(self._every, took / self._share))

    def read(self) -> T:
        """The last answer.

        Raises:
            TimeoutError: there is none, or it is too old.
        """
        answer = self._answer
        if answer is None or time.monotonic() - answer[0] > self._lasts:
            raise TimeoutError(self._error)
        return answer[1]
