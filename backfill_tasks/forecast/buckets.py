"""The buckets in which the ends of jobs are counted."""

#: The shortest and the usual length of a bucket, and the most buckets of a history.
_SHORTEST, _USUAL, _MOST = 10.0, 60.0, 240
#: A history has so many buckets before they get longer than the shortest.
_FEWEST = 30


def bucket_seconds(seconds: float) -> float:
    """Return the length of a bucket for a history of so many seconds: short at first, later a 240th of it.

    The host is called once a minute, so buckets of a minute and more scatter least.
    """
    return max(_SHORTEST, min(_USUAL, seconds / _FEWEST), seconds / _MOST)
