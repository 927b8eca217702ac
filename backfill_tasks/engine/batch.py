"""A single batch: one page that reads something, lane after lane until there is one. Canaries are single batches."""

from collections.abc import Mapping

#: A single batch passes this many empty pages of a lane at most: 5,000,000 rows of which none takes part.
MOST_EMPTY_PAGES = 1_000


def ends_with(page: int, counts: Mapping[str, int]) -> bool:
    """Return whether a single batch ends with this page of its lane: it read something, or looked far enough."""
    return bool(counts.get("read")) or page % MOST_EMPTY_PAGES == 0


def reason(counts: Mapping[str, int]) -> str:
    """Return why a run pauses after its single batch."""
    return "single batch done" if counts.get("read") else "single batch ended, but no page of it read anything"
