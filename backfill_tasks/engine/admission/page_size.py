"""The adaptive page size: how many rows the next page may hold."""

#: A page that took too long makes the next one smaller in proportion, but not below this share of it at once: one slow
#: page may have been bad luck.
_LEAST_SHARE = 0.25

#: A page that took less than this share of the target lets the next one grow, by this share of the limit. Fast down and
#: slowly up, as TCP does it: whoever comes too near to the edge spends little time there (RFC 5681, section 3.1).
_ROOMY_SHARE = 0.8
_GROWTH_SHARE = 0.05


def next_size(size: int, *, limit: int, used: int, seconds: float, target_ms: int) -> int:
    """How many items the next page may hold: between 1 and `limit`.

    Args:
        size: what the last page might have held.
        limit: the most.
        used: what the last page was held to; less than `size` where there was no room for more.
        seconds: what it took.
        target_ms: what it should have taken; 0: anything.
    """
    if not target_ms:
        return limit
    share = 1000 * seconds / target_ms
    if share > 1:
        return max(1, min(limit, int(used * max(_LEAST_SHARE, 1 / share))))
    if share < _ROOMY_SHARE and used >= size:
        return min(limit, size + max(1, int(limit * _GROWTH_SHARE)))
    return min(limit, size)
