"""The counts of what a batch of jobs has come to."""

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Written:
    """What became of a batch's jobs. `lost`: they weren't the batch's any more, so nothing was written for them."""

    scored: int = 0
    unchanged: int = 0
    retried: int = 0
    failed: int = 0
    given_back: int = 0
    lost: int = 0

    @property
    def ended(self) -> int:
        """The number of jobs that need no further attempt."""
        return self.scored + self.unchanged + self.failed

    def __add__(self, other: "Written") -> "Written":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Written(*(one + two for one, two in pairs))


NOTHING = Written()
