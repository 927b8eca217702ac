"""What became of one item: what the ledger records of it, run by run, and what its backfill adds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.states import RunState
from backfill_tasks.options import Values

Place = Literal["before", "beyond", "between", "ahead", "passed"]
"""Where an item is, seen from a run.

`before`: not after the run's first key. `beyond`: after the last lane's end. `between`: in no lane, which is possible
only in a run that continued a checkpoint. `ahead`: its lane hasn't come to it. `passed`: its lane has.
"""


@dataclass(frozen=True)
class Now:
    """An item as the database has it now.

    Attributes:
        item: its key, as the database writes it.
        exists: whether it is there; None: its backfill doesn't tell.
        would: the class in which a run with default options would put it now, or why such a run would pass it over;
            None: it isn't there, or the backfill doesn't tell.
        needed: whether such a run would read it.
    """

    item: str
    exists: bool | None
    would: str | None
    needed: bool


@dataclass(frozen=True)
class PassedPage:
    """The page whose range contains an item.

    Attributes:
        number: its number.
        at: when its transaction began.
        seconds: how long the transaction took.
        counts: its items by class.
        enqueued: whether it put the item into the host's queue; None: it is older than that record.
        released_at: when a retry of the item put it there; None: none did.
        retried: when quarantined items of the page succeeded.
    """

    number: int
    at: datetime
    seconds: float
    counts: Mapping[str, int]
    enqueued: bool | None
    released_at: datetime | None
    retried: Sequence[datetime]

    @property
    def times(self) -> Sequence[datetime]:
        """The times that the page's rows in the host's tables carry."""
        return (self.at, *self.retried)


@dataclass(frozen=True)
class Passage:
    """One run and one item, as the ledger has them.

    Attributes:
        run: the run's id.
        state: its state.
        reason: why it is in this state.
        options: the backfill's own options.
        cursor: the key after which the run was told to begin.
        started_at: when it started.
        place: where the item is, seen from the run.
        lane: the number of the item's lane; None: it is in no lane.
        lane_state: done, failed, or the state of the run.
        lane_reason: why the lane failed or waits.
        position: the key after which the lane's next page starts.
        page: the page that passed the item; None: none has, or the ledger doesn't have it any more.
        error: why the item is in the run's quarantine; None: it isn't.
    """

    run: RunId
    state: RunState
    reason: str | None
    options: Values
    cursor: str | None
    started_at: datetime
    place: Place
    lane: int | None = None
    lane_state: str | None = None
    lane_reason: str | None = None
    position: str | None = None
    page: PassedPage | None = None
    error: str | None = None

    @property
    def enqueued_at(self) -> datetime | None:
        """When the run put the item into the host's queue; None: it didn't, or the ledger doesn't say."""
        if self.page is None:
            return None
        return self.page.released_at or (self.page.at if self.page.enqueued else None)


@dataclass(frozen=True)
class Fate:
    """What a page did with an item.

    `classes`: the classes and the reasons for passing an item over that nothing excludes; exactly one: that is the
    answer. `said`: the same in words.
    """

    classes: tuple[str, ...]
    said: str


@dataclass(frozen=True)
class Verdict:
    """The answer in a sentence. `kind`: a word for scripts that never changes; `next`: what to type."""

    kind: str
    said: str
    next: str | None = None


@dataclass(frozen=True)
class Explanation:
    """What a backfill adds to what the ledger records.

    Attributes:
        verdict: the answer; None: only the ledger has one.
        fates: what the page of each passage did with the item, by run, where the backfill can tell.
        lines: what the host's tables say of the item: a name and a text each.
        facts: the same as JSON, by name.
    """

    verdict: Verdict | None = None
    fates: Mapping[RunId, Fate] = field(default_factory=dict)
    lines: Sequence[tuple[str, str]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def joined(words: Sequence[str], conjunction: str = "or") -> str:
    """Return words as a list: `a`, `a or b`, `a, b or c`."""
    return f" {conjunction} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
