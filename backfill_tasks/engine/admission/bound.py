"""The bound on the jobs in a host's queue, sized to the host's drain.

Model: the host calls its runner in some rhythm, and a call takes up to a number of due jobs, its *capacity*, which may
change at any time and which no table contains. Just before a call, the due jobs of others are known, so our share is
what they leave of the capacity: room = capacity - live - ours.

The capacity is estimated as BBR estimates a path's bandwidth (Cardwell et al., "BBR: Congestion-Based Congestion
Control", ACM Queue 14(5), 2016), with a call in place of a round trip:

- A call that leaves due jobs behind was full: the jobs it took are the capacity. This follows a fall within one call.
- A call that took all we offered could have taken more. Every few full calls we offer slightly more (BBR's probing). If
  that is taken as well, the offer doubles with each call until one leaves jobs behind (BBR's startup).
- A call that took less than we offered and left nothing says nothing: there was too little to take.

Unlike AIMD and gradient controllers, it needs no increase of the live jobs' wait to find the limit: the wait of a
drain in batches is dominated by the phase of the arrival, which hides a queue of less than a period's length.

Jobs that our own scorers take aren't part of the host's drain, so they don't count. They do make room in the queue, as
long as they are taken: while the scorers take due jobs (`shared`), jobs are added between calls as well, up to what the
live jobs leave of the next call. If the scorers stop, the caller sets back those of our jobs for which live jobs that
have arrived since then leave no room.

If we call the host more often than it does itself (`every`), a call of ours is the unit, and the host's rhythm is kept
for the time after that.

Weakness: a probe exceeds the capacity by a few of our jobs, and a fall of the capacity shows only after the first call
that is overfilled. The caller sets back those of our jobs that this leaves in the queue, so they delay live jobs in one
call at the most.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from backfill_tasks.engine.admission.rhythm import Rhythm, Wait, rhythm

#: The capacity assumed before a call has been seen.
_FIRST = 5.0
#: The most jobs of a call: a measurement counts no further.
MOST = 1_000

#: The share of the capacity that a probe adds, and the growth after one that succeeds.
_PROBE = 0.05
_GROWTH = 2.5
#: How many full calls pass between probes, and the most that probes may add to all jobs: a failed probe leaves as many
#: jobs in the queue as it added, and the host may choose live ones.
_REST = 2
_PROBED = 1 / 40

#: How long live jobs must have left no room before the guaranteed share goes through, in seconds. A live load of 95 %
#: leaves no room for an hour at a time, although it leaves 5 % over a day: the share would then be taken twice.
STARVED_SECONDS = 7_200.0

#: The weight of the last call in the average that operators see.
_SHOWN = 0.1


@dataclass(frozen=True)
class Measurement:
    """The state of a host's queue at one moment. Times are Unix times by the database's clock.

    Attributes:
        at: when it was measured.
        since: the call that `taken`, `taken_ours` and `left` are about.
        live: the number of due jobs that aren't ours.
        ours: the number of our jobs that are due by the next call.
        taken: how many jobs the host has started since that call.
        taken_ours: how many of them are ours.
        left: how many jobs were due at that call and still wait.
        waits: the last jobs that the host has started by itself.
        here: how many due jobs our own scorers have started since that call. They aren't among those taken.
        every: how often we call the host ourselves, in seconds; None: we don't, or no more often than it calls itself.
    """

    at: float
    since: float
    live: int
    ours: int
    taken: int
    taken_ours: int
    left: int
    waits: Sequence[Wait] = ()
    here: int = 0
    every: float | None = None


@dataclass(frozen=True)
class Bound:
    """What is known of a host's drain, and the bound that follows from it. The ledger stores all of it.

    Attributes:
        rhythm: when the host takes jobs by itself.
        capacity: how many it takes in a call.
        growing: whether the offer doubles with each call, because none has left anything behind yet.
        rest: how many calls pass before the next probe.
        judged: the last call that was judged; 0: none.
        had_room: whether there was room for ours when that call was judged.
        starved_since: since when live jobs have left no room; None: they leave some.
        credit: the jobs that the guaranteed share owes us.
        live_per_call: how many jobs of others a call takes, on average.
        shared: whether our own scorers take due jobs, too.
        every: how often we call the host ourselves, in seconds; None: we don't.
    """

    rhythm: Rhythm
    capacity: float = _FIRST
    growing: bool = True
    rest: int = 0
    judged: float = 0.0
    had_room: bool = True
    starved_since: float | None = None
    credit: float = 0.0
    live_per_call: float = 0.0
    shared: bool = False
    every: float | None = None

    @property
    def calls(self) -> Rhythm:
        """When calls come: ours have no fixed moments."""
        return self.rhythm if self.every is None else Rhythm(self.every, None)

    @property
    def offer(self) -> int:
        """The most jobs that may be due at the next call: the capacity, or slightly more for a probe."""
        probe = 0 if self.growing or self.rest else _probe(self.capacity)
        return min(MOST, math.floor(self.capacity) + probe)

    @property
    def owed(self) -> int:
        """How many of our jobs may be added although there is no room."""
        return math.floor(self.credit)

    def room(self, measured: Measurement) -> int:
        """Return how many of our jobs may be added; negative: how many are due beyond the bound."""
        return self.offer - measured.live - measured.ours

    def since(self, at: float) -> float:
        """Return the last call before a time; of a drain without fixed moments, the time one period ago."""
        return at - self.calls.seconds if self.calls.phase is None else self.calls.last(at)

    def opens(self, at: float, lead_seconds: float) -> float:
        """Return when jobs for the next call may be added: now or later."""
        if self.calls.phase is None:
            return at
        return max(at, self.calls.following(at) - min(lead_seconds, self.calls.seconds / 2))

    def pay(self, jobs: int) -> Self:
        """Return the bound after so many jobs that were owed have been added."""
        return replace(self, credit=max(0.0, self.credit - jobs))

    @property
    def starved_seconds(self) -> float:
        """How long live jobs had left no room when the last call was judged."""
        return 0.0 if self.starved_since is None else max(0.0, self.judged - self.starved_since)

    def as_json(self) -> dict[str, Any]:
        """Return the bound as the ledger stores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the bound of an `as_json` object. An attribute that it lacks is newer, and gets its default."""
        known = {each.name for each in fields(cls)} - {"rhythm"}
        return cls(Rhythm(**values["rhythm"]), **{name: value for name, value in values.items() if name in known})


def observe(bound: Bound, measured: Measurement, *, min_share: float, usual_seconds: float) -> Bound:
    """Return the bound after a measurement that was made just before a call. Each call is judged once.

    Args:
        bound: the bound so far.
        measured: about the call before that.
        min_share: the share of the drain that is guaranteed to us, from 0 to 1.
        usual_seconds: the host's usual period.
    """
    if bound.judged > measured.at:  # the clock was set back
        return replace(bound, judged=measured.since, starved_since=None)
    if measured.since <= bound.judged:
        return bound
    seen = _guaranteed(_capacity(bound, measured), measured, min_share)
    live = measured.taken - measured.taken_ours
    return replace(
        seen,
        rhythm=rhythm(measured.waits, bound.rhythm, usual_seconds=usual_seconds),
        judged=measured.at if bound.calls.phase is None else measured.since,
        had_room=seen.room(measured) > 0,
        live_per_call=bound.live_per_call + (_SHOWN if bound.judged else 1.0) * (live - bound.live_per_call),
        shared=measured.here > 0,
        every=measured.every,
    )


def _capacity(bound: Bound, measured: Measurement) -> Bound:
    taken = min(measured.taken, MOST)
    if measured.left:
        # If no job was taken, there was no call: the host is stopped, or late.
        return replace(bound, capacity=float(taken), growing=False, rest=_rest(taken)) if taken else bound
    if taken >= bound.offer and (bound.growing or not bound.rest):
        return replace(bound, capacity=min(float(MOST), max(_GROWTH * bound.capacity, taken)), growing=True)
    return replace(bound, rest=max(0, bound.rest - 1))


def _probe(capacity: float) -> int:
    """Return how many jobs a probe adds."""
    return max(1, math.floor(_PROBE * capacity))


def _rest(capacity: float) -> int:
    """Return how many calls pass before the next probe."""
    return max(_REST, math.ceil(_probe(capacity) / capacity / _PROBED) - 1)


def _guaranteed(bound: Bound, measured: Measurement, min_share: float) -> Bound:
    """Update since when there has been no room, and what the guaranteed share owes us."""
    if bound.had_room:
        return replace(bound, starved_since=None, credit=0.0)
    if bound.starved_since is None:
        return replace(bound, starved_since=measured.since)
    if measured.since - bound.starved_since < STARVED_SECONDS:
        return bound
    most = max(1.0, 2 * min_share * bound.capacity)
    return replace(bound, credit=min(most, bound.credit + min_share * measured.taken))
