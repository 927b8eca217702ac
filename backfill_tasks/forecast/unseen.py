"""What a short history can't have shown: slow variation of the host's rate, and outages.

A history of an hour contains no night, no busy hour, and rarely an outage. So two priors widen the futures of
`paths.py` beyond what the history shows. Both lose weight as the history grows:

- *Slow variation.* Load varies on all time scales, like flicker noise: the means of two neighbouring intervals differ
  by the same share, however long the intervals are (Allan, Proceedings of the IEEE 54, 1966). So only the ratio of the
  rest to the history counts. The rest's mean rate, relative to the history's, is log-normal; its variance is
  proportional to rest / (rest + history), because the present rate predicts a short rest well. Its median is below 1:
  live jobs can take the whole rate of ours, but ours can't exceed what the host takes.
- *Outages.* The host isn't called for an hour, on average, in a Poisson process. With a history of length H, its
  intensity is Gamma distributed with shape 1/2 (Jeffreys' prior) and rate H plus one day. Outages that the history
  contains are stretches of it, and `paths.py` repeats them.

The constants were fitted to the simulated runs of benchmarks/forecast.py, with other seeds than the published ones.
"""

import math
import random

#: The standard deviation of the logarithm of the rate's change if the rest is much longer than the history, and by how
#: many standard deviations the median is below no change.
_DEVIATION, _SLOWER = 0.16, 0.5

#: The prior of outages: their shape, the time that the prior stands for, and an outage's mean length in seconds.
_SHAPE, _PRIOR_SECONDS, _LASTS_SECONDS = 0.5, 86_400.0, 3_600.0

#: A rest of this length contains enough outages: a year.
_LONGEST_SECONDS = 3.2e7


def variation(chance: random.Random, seen: float, rest: float) -> float:
    """Draw the mean rate of the rest as a multiple of what is expected from the history.

    Args:
        chance: the source of random numbers.
        seen: the length of the history in seconds.
        rest: about how long the rest takes, in the same unit.
    """
    deviation = _DEVIATION * math.sqrt(rest / (rest + seen))
    return math.exp(deviation * chance.gauss(-_SLOWER, 1.0))


def outages(chance: random.Random, seen: float, rest: float) -> float:
    """Draw how many seconds of outages a rest of this length is interrupted by, given the length of the history."""
    intensity = chance.gammavariate(_SHAPE, 1 / (_PRIOR_SECONDS + seen))
    gaps = 1 / max(intensity, 1 / _LONGEST_SECONDS)
    at, total = chance.expovariate(1 / gaps), 0.0
    while at < min(rest, _LONGEST_SECONDS):
        total += chance.expovariate(1 / _LASTS_SECONDS)
        at += chance.expovariate(1 / gaps)
    return total
