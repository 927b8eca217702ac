"""Escapes all output in the one place that all of it passes through."""

import sys
from typing import Any, TextIO, cast

from backfill_tasks.escaping import visible


class _Escaped:
    """A text stream that escapes control characters and delegates everything else to the wrapped stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, escaped."""
        self._stream.write(visible(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write lines, escaped."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def escape() -> None:
    """Escape everything that this process writes to standard output and standard error from now on."""
    sys.stdout, sys.stderr = _escaped(sys.stdout), _escaped(sys.stderr)


def _escaped(stream: TextIO | None) -> TextIO:
    """Return a stream, escaped; None stays None, as Python represents a stream that was closed before it started."""
    return cast("TextIO", stream and _Escaped(stream))
