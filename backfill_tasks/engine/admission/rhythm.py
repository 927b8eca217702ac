"""The rhythm of a host's drain: how often the host takes jobs out of its queue, and at which moments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: The periods tried, in multiples of the expected one, longest first.
_PERIODS = (2, 1, 1 / 2, 1 / 3, 1 / 4, 1 / 6)

#: A period needs this many waits, of at most this share of it, over this many of its calls, and this share of the waits
#: must contain one of its calls. Longer waits say little: a wait of a whole period contains a call, wherever it is.
_LEAST_WAITS = 20
_LONGEST_WAIT = 0.5
_LEAST_CALLS = 4
_AGREEMENT = 0.75

Wait = tuple[float, float]
"""When a job was due and when the host started it, as Unix times."""


@dataclass(frozen=True)
class Rhythm:
    """When the host takes jobs: every `seconds`, `phase` seconds after whole multiples of them (Unix time).

    A phase of None: at no fixed moments, or all the time.
    """

    seconds: float
    phase: float | None

    def last(self, at: float) -> float:
        """Return the last call at or before a time. Without a phase, calls are taken to be at whole multiples."""
        phase = self.phase or 0.0
        return math.floor((at - phase) / self.seconds) * self.seconds + phase

    def following(self, at: float) -> float:
        """Return the first call after a time."""
        return self.last(at) + self.seconds


def rhythm(waits: Sequence[Wait], expected: Rhythm, *, usual_seconds: float) -> Rhythm:
    """Return the rhythm that these waits show, or `expected` if they don't show any.

    A call of the host takes only jobs that are due. So each wait, from the due time to the start, contains the call
    that took the job, however long the host works on its jobs and however many at a time. Folded onto a circle of one
    period, the waits of a periodic drain have a point in common: the phase. The longest period with such a point is the
    drain's, because its fractions have one, too. If every tested period fails, the drain has no fixed moments.

    Args:
        waits: the last jobs that the host has started.
        expected: the rhythm so far.
        usual_seconds: the period from the settings. Longer ones and fractions of it are tried.
    """
    if not waits:
        return expected
    span = max(started for _, started in waits) - min(started for _, started in waits)
    tested = False
    for multiple in _PERIODS:
        seconds = multiple * usual_seconds
        short = [(due, started) for due, started in waits if 0 <= started - due <= _LONGEST_WAIT * seconds]
        if len(short) < _LEAST_WAITS or span < _LEAST_CALLS * seconds:
            if multiple > 1:
                continue
            return expected  # a fraction of the period would pass the test, too
        tested = True
        agreeing, phase = _common_point(short, seconds)
        if agreeing >= _AGREEMENT * len(short):
            return Rhythm(seconds, phase)
    return Rhythm(_PERIODS[-1] * usual_seconds, None) if tested else expected


def _common_point(waits: Sequence[Wait], seconds: float) -> tuple[int, float]:
    """Return the most waits that have a point in common on a circle of one period, and the last such point."""
    # Ends sort after starts at the same point. A wait that crosses zero is open at the beginning.
    open_ = sum(1 for due, started in waits if started % seconds < due % seconds)
    edges = sorted([(due % seconds, 0) for due, _ in waits] + [(started % seconds, 1) for _, started in waits])
    most, point, best = open_, None, -1
    for place, ends in edges:
        if ends:
            if open_ > best:
                best, point = open_, place
            open_ -= 1
        else:
            open_ += 1
    return max(most, best), point or 0.0
