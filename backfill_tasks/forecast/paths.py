"""Possible futures of a drain, drawn at random: how long each takes for the jobs that are left.

Model: the drain has one rate for a while, then another. Nothing says when the host is reconfigured, or live jobs come
in numbers, so the history is the main source, and a prior for what it is too short to show (`unseen.py`) the other:

- *When it changes.* Changes are a Poisson process. With k of them in a history of length H, its intensity has the Gamma
  distribution with shape k + 1/5 and rate H. So a rate that has been steady for a week lasts another week with a
  probability of 0.87. (Laplace's rule has k + 1; slow variation is a factor of its own here.)
- *To which rate.* To a stretch that it had before, or to a new rate: a Pólya urn (Blackwell and MacQueen, Annals of
  Statistics 1, 1973), whose new rates are log-normal around the present one. What is drawn on a path is put into the
  urn, too. So busy hours and idle nights return, and a step that has never been seen is possible.
- *For how long.* A stretch that returns lasts as long as it did, on average: an outage of an hour doesn't come back as
  one of half a day. A new rate lasts until the next change of that Poisson process.
- *Noise.* Within a stretch the number of jobs is normal with the history's dispersion, and the rate is known only as
  well as its jobs tell.

Weakness: days and nights are seen only after a day. A drift is a staircase, whose next step has no preferred direction.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backfill_tasks.forecast.history import History
from backfill_tasks.forecast.unseen import outages, variation

#: How many futures are drawn: the quantiles then scatter by a few percent of the interval. Always the same ones.
_PATHS = 400
_SEED = 16

#: The prior of the intensity, in changes beyond those that have been seen.
_PRIOR_CHANGES = 0.2
#: The weight of new rates in the urn, in past stretches, and the standard deviation of their logarithm: two in three
#: new rates are between 0.6 and 1.65 times the present one.
_NEW, _SPREAD = 1.0, 0.5

#: No future is followed further: a century.
_FOREVER = 3.2e9
_MOST_STEPS = 2_000


@dataclass(frozen=True)
class Left:
    """How many jobs are left: an estimate, and its standard deviation."""

    jobs: float
    deviation: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """When jobs can end.

    Attributes:
        call_seconds: the time between two calls of the host: jobs end with one.
        due_seconds: until the last job is due, those to come included.
        spacing_seconds: by how much one more job delays that; 0: not at all.
    """

    call_seconds: float
    due_seconds: float = 0.0
    spacing_seconds: float = 0.0


Factor = Callable[[random.Random], float]
"""Draws the factor by which a change of options changes the rate."""


def unchanged(_chance: random.Random) -> float:
    """Return 1: the rate stays as it is."""
    return 1.0


def durations(history: History, left: Left, schedule: Schedule, *, factor: Factor = unchanged) -> Sequence[float]:
    """Return how long the jobs that are left take, in seconds, in each of the futures, sorted.

    Args:
        history: how jobs have ended so far.
        left: the jobs.
        schedule: when they can end.
        factor: how much faster the drain is than the history shows.
    """
    # The factors have numbers of their own: whatever they are, the futures are the same and can be compared.
    chance, factors = random.Random(_SEED), random.Random(_SEED)  # noqa: S311  nothing is kept secret
    futures = _Futures(history, chance)
    rest = left.jobs * history.seconds / history.ended
    found = []
    for _ in range(_PATHS):
        more = chance.gauss(0, left.deviation)
        scatter = chance.gauss(0, math.sqrt(history.dispersion * left.jobs))
        speed = factor(factors) * variation(chance, history.seconds, rest)
        drained = futures.draw(max(0.5, left.jobs + more + scatter) / speed) if speed else _FOREVER
        drained += outages(chance, history.seconds, drained)
        seconds = max(drained, schedule.due_seconds + schedule.spacing_seconds * more)
        # The last job ends with a call, which comes at any time within a period.
        call = schedule.call_seconds * chance.random()
        found.append(max(seconds - schedule.call_seconds / 2 + call, call))
    return sorted(found)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile `share` of sorted values, by nearest rank."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


class _Futures:
    """Draws futures of one history."""

    def __init__(self, history: History, chance: random.Random) -> None:
        self._history, self._chance = history, chance

    def draw(self, jobs: float) -> float:
        """Return how many seconds the jobs take."""
        chance, seen = self._chance, self._history
        intensity = chance.gammavariate(seen.changes + _PRIOR_CHANGES, 1 / seen.seconds)
        usual = 1 / max(intensity, 1 / _FOREVER)
        # Each rate with its mean length. The present stretch hasn't ended yet.
        urn = [(each.rate, each.seconds) for each in seen.stretches]
        urn[-1] = (seen.now.rate, max(seen.now.seconds, usual))
        rate, mean, seconds = self._about_now(), usual, 0.0
        for _ in range(_MOST_STEPS):
            lasts = chance.expovariate(1 / mean)
            if jobs <= rate * lasts:
                return seconds + jobs / rate
            jobs -= rate * lasts
            seconds += lasts
            if seconds > _FOREVER:
                break
            place = chance.random() * (len(urn) + _NEW)
            rate, mean = urn[int(place)] if place < len(urn) else (self._new(), usual)
            urn.append((rate, mean))
        return _FOREVER

    def _about_now(self) -> float:
        """Draw the present rate, which is known as well as its jobs tell: Gamma distributed, by Jeffreys' prior.

        Half of the futures take the whole present stretch for one rate, the others only the last part of it.
        """
        now = self._chance.choice((self._history.now, self._history.lately))
        unit = self._history.dispersion
        return self._chance.gammavariate(now.ended / unit + 0.5, unit / now.seconds)

    def _new(self) -> float:
        """Draw a rate that has not been seen; after a standstill, around the average one."""
        around = self._history.now.rate or self._history.ended / self._history.seconds
        return around * math.exp(self._chance.gauss(0, _SPREAD))
