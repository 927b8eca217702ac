"""How long to leave the host alone after calls that failed."""

import random
from collections.abc import Callable

#: The first wait and the longest one, in seconds.
_FIRST, _LONGEST = 5.0, 300.0

#: More failures than this don't lengthen the wait further: ten doublings of the first are far above the longest.
_MOST_DOUBLINGS = 10


def delay(failures: int, retry_after: float | None, *, chance: Callable[[], float] = random.random) -> float:
    """Return the wait after this many failed calls in a row (1 or more), in seconds.

    It doubles with each failure up to five minutes, and a random half of it spreads callers that failed together:
    "equal jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. The host's Retry-After is
    a minimum.
    """
    longest = min(_LONGEST, _FIRST * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
    return max(retry_after or 0.0, longest / 2 + chance() * longest / 2)
