"""A single batch: one page that reads at least one item, searched lane by lane. Canaries are single batches."""

from collections.abc import Mapping

#: A single batch passes at most this many empty pages per lane: 5,000,000 rows without an eligible one.
MOST_EMPTY_PAGES = 1_000


def ends_with(page: int, counts: Mapping[str, int]) -> bool:
    """Return whether a single batch ends with this page of its lane: it read an item, or too many pages were empty."""
    return bool(counts.get("read")) or page % MOST_EMPTY_PAGES == 0


def reason(counts: Mapping[str, int]) -> str:
    """Return why a run pauses after its single batch."""
    return "single batch done" if counts.get("read") else "single batch ended without reading an item"
