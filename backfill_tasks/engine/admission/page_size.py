"""The adaptive page size: how many items the next page may have."""

#: A slow page shrinks the next one in proportion, but at most to this share: a single slow page may be an outlier.
_LEAST_SHARE = 0.25

#: A page that took less than this share of the target lets the next one grow by _GROWTH_SHARE of the limit. Additive
#: increase, multiplicative decrease, as in TCP's congestion avoidance (RFC 5681, section 3.1): the size recovers fast
#: from an overload and approaches the limit slowly.
_ROOMY_SHARE = 0.8
_GROWTH_SHARE = 0.05


def next_size(size: int, *, limit: int, used: int, seconds: float, target_ms: int) -> int:
    """Return how many items the next page may have: between 1 and `limit`.

    Args:
        size: the last page's size before admission.
        limit: the maximum.
        used: the size that the last page was admitted with; less than `size` if a bound left no more room.
        seconds: the last page's duration.
        target_ms: the target duration; 0: any.
    """
    if not target_ms:
        return limit
    share = 1000 * seconds / target_ms
    if share > 1:
        return max(1, min(limit, int(used * max(_LEAST_SHARE, 1 / share))))
    if share < _ROOMY_SHARE and used >= size:
        return min(limit, size + max(1, int(limit * _GROWTH_SHARE)))
    return min(limit, size)
