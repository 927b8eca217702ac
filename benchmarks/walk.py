"""The types that all measurements share."""

from dataclasses import dataclass


class BenchmarkError(Exception):
    """A measurement failed; the text says in one line which one and why."""


@dataclass(frozen=True)
class Walk:
    """How many leads a measurement handled, and in how many seconds."""

    leads: int
    seconds: float

    @property
    def rate(self) -> float:
        """Leads per second."""
        return self.leads / self.seconds
