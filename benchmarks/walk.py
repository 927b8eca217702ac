"""What every measurement has in common."""

from dataclasses import dataclass


class BenchmarkError(Exception):
    """A measurement failed; the text is one line that says which and why."""


@dataclass(frozen=True)
class Walk:
    """So many leads handled in so many seconds."""

    leads: int
    seconds: float

    @property
    def rate(self) -> float:
        """Leads a second."""
        return self.leads / self.seconds
