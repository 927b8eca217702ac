"""How fast our jobs have ended so far: stretches of one rate each, and how much the counts scatter within them."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: The shortest stretch, in buckets, and the most changes that are looked for.
_SHORTEST = 3
_MOST_CHANGES = 24

#: The fewest sums whose scatter is measured.
_FEWEST_SUMS = 8

#: How many standard deviations apart the means of two stretches must be. Of all places in a few hundred buckets, the
#: best one exceeds this by chance once in 20 histories.
_SIGNIFICANT = 3.3


@dataclass(frozen=True)
class Stretch:
    """A time during which jobs ended at one rate. `seconds`: its length; `ended`: how many jobs ended in it."""

    seconds: float
    ended: int

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.ended / self.seconds


@dataclass(frozen=True)
class History:
    """How jobs ended up to now.

    Attributes:
        stretches: oldest first, the present one last; at least one.
        lately: the last third of the present one. A change that is too small to be seen may separate it from the rest.
        dispersion: the variance of the jobs ended in a time, as a multiple of their mean: 1 for independent jobs, more
            if they end in bursts.
    """

    stretches: Sequence[Stretch]
    lately: Stretch
    dispersion: float

    @property
    def seconds(self) -> float:
        """The length of the history."""
        return sum(each.seconds for each in self.stretches)

    @property
    def ended(self) -> int:
        """How many jobs ended in it."""
        return sum(each.ended for each in self.stretches)

    @property
    def now(self) -> Stretch:
        """The present stretch."""
        return self.stretches[-1]

    @property
    def changes(self) -> int:
        """How often the rate has changed."""
        return len(self.stretches) - 1


def history(counts: Sequence[int], bucket_seconds: float, call_seconds: float = 0.0) -> History | None:
    """Divide counts of equal buckets into stretches of one rate each; None before any job has ended.

    The buckets before the first one with a job say nothing: jobs had to come due first. Jobs end with a call of the
    host, so buckets shorter than the time between two calls are merged: otherwise the regular gaps between calls would
    look like bursts.

    Args:
        counts: the jobs that ended in each bucket, oldest first.
        bucket_seconds: the length of a bucket.
        call_seconds: the time between two calls; 0: jobs end at any time.

    Method: binary segmentation (Scott and Knott, Biometrics 30, 1974). The place that divides a stretch best is where
    the means of both sides differ most in units of their standard deviation (CUSUM); the stretch is divided there if
    that is significant, and so are its parts. Variance = dispersion x mean, as in a quasi-Poisson model; the dispersion
    comes from the differences of neighbours, which a change of the rate hardly affects.
    """
    first = next((place for place, count in enumerate(counts) if count), None)
    if first is None:
        return None
    seen, bucket_seconds = _whole_calls(counts[first:], bucket_seconds, call_seconds)
    dispersion = _dispersion(seen)
    edges = [0, *_changes(seen, dispersion), len(seen)]
    parts = [seen[start:end] for start, end in pairwise(edges)]
    lately = parts[-1][-max(_SHORTEST, len(parts[-1]) // 3) :]
    stretches = [_stretch(part, bucket_seconds) for part in parts]
    return History(stretches, _stretch(lately, bucket_seconds), dispersion)


def _whole_calls(counts: Sequence[int], bucket_seconds: float, call_seconds: float) -> tuple[Sequence[int], float]:
    """Return the counts of buckets of at least a call, and their length; the last one ends now."""
    number = math.ceil(call_seconds / bucket_seconds)
    if number <= 1 or len(counts) < 2 * number:
        return counts, bucket_seconds
    rest = len(counts) % number
    return [sum(counts[place : place + number]) for place in range(rest, len(counts), number)], number * bucket_seconds


def _stretch(counts: Sequence[int], bucket_seconds: float) -> Stretch:
    return Stretch(len(counts) * bucket_seconds, sum(counts))


def _dispersion(counts: Sequence[int]) -> float:
    """Return the variance of the jobs ended in a time divided by their mean, at least 1.

    Counts that follow each other may be alike, so that sums of many scatter more than their parts do. So the variance
    is that of differences between neighbouring sums (the Allan variance), and the greatest of all lengths counts. At
    each length the greatest difference is left out: it may be a change of the rate.
    """
    most, sums = 1.0, list(counts)
    mean = statistics.fmean(counts)
    if len(counts) < _FEWEST_SUMS:
        return max(most, float(max(counts)))  # nothing is known yet: all of them ended in one burst
    length = 1
    while len(sums) >= _FEWEST_SUMS:
        squares = sorted((b - a) ** 2 for a, b in pairwise(sums))[:-1]
        most = max(most, statistics.fmean(squares) / 2 / (length * mean))
        sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=False)]
        length *= 2
    return most


def _changes(counts: Sequence[int], dispersion: float) -> list[int]:
    """Return the places at which the rate changes, in order."""
    found: list[int] = []
    parts = [(0, len(counts))]
    while parts and len(found) < _MOST_CHANGES:
        start, end = parts.pop(0)
        place = _best(counts[start:end], dispersion)
        if place is not None:
            found.append(start + place)
            parts += [(start, start + place), (start + place, end)]
    return sorted(found)


def _best(counts: Sequence[int], dispersion: float) -> int | None:
    """Return where a stretch divides into two with significantly different means; None: nowhere."""
    score, place = max(_scores(counts, dispersion), default=(0.0, 0))
    return place if score > _SIGNIFICANT else None


def _scores(counts: Sequence[int], dispersion: float) -> Iterator[tuple[float, int]]:
    total, number = sum(counts), len(counts)
    variance = dispersion * max(total, 1) / number
    before = sum(counts[: _SHORTEST - 1])
    for place in range(_SHORTEST, number - _SHORTEST + 1):
        before += counts[place - 1]
        difference = before / place - (total - before) / (number - place)
        yield abs(difference) / math.sqrt(variance * (1 / place + 1 / (number - place))), place
