"""The engine's words as data: a run, its lanes and pages, and what passes between them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from typing import Any, Literal, NewType

from backfill_tasks.engine.refusal import Refusal
from backfill_tasks.engine.states import ENDED, LaneState, RunState
from backfill_tasks.errors import MalformedError
from backfill_tasks.options import Parameters

RunId = NewType("RunId", str)
Mode = Literal["dry-run", "apply"]


@dataclass(frozen=True)
class Bounds:
    """A stretch of ids in the database's own order: lower exclusive (None: the beginning), upper inclusive."""

    lower: str | None
    upper: str


@dataclass(frozen=True)
class Window:
    """What a page may read: ids of `bounds`, at most `limit` items, at most `rows` rows looked at to find them."""

    bounds: Bounds
    limit: int
    rows: int


@dataclass(frozen=True)
class PageResult:
    """What a page did.

    Attributes:
        cursor: the last id that the page has passed; equal to the window's upper bound when nothing is left of it.
        counts: items by class.
        numbered: how many of the run's ordinals the page used (see `Backfill.needs_ordinals`).
        due_at: when the last of its items falls due, where they are spread (see `PageContext.spacing_ms`).
        enqueued: ids of the items whose jobs the page wrote: the run's own from then on.
    """

    cursor: str
    counts: Mapping[str, int]
    numbered: int = 0
    due_at: datetime | None = None
    enqueued: Sequence[str] = ()


@dataclass(frozen=True)
class Quarantined:
    """An item that a page couldn't handle, and why, on one line that repeats no value of its row."""

    item: str
    error: str
    refusal: Refusal | None = None


#: The version of the message's format, to be raised with every change of PageMessage's fields or of what they mean. It
#: travels with each message and is part of the queue's name.
MESSAGE_FORMAT = 2

#: What the ledger's columns and a log line have room for.
_GREATEST = 2**31 - 1
_LONGEST_RUN_ID = 100


@dataclass(frozen=True)
class PageMessage:
    """Which page a task is to do: the only thing that travels through the broker.

    `waits`: how often the page has been put off. Each time it is sent anew, with the next number, so that of a message
    that comes twice only one is followed by another.
    """

    run: RunId
    lane: int
    page: int
    generation: int
    waits: int = 0

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "PageMessage":
        """Read the fields of a message. Anybody who can reach the broker may have written them.

        Raises:
            MalformedError: they aren't a page's.
        """
        names = {each.name for each in fields(cls)}
        needed = {each.name for each in fields(cls) if each.default is MISSING}
        if not needed <= values.keys() <= names:
            raise MalformedError(f"the task's arguments must be {', '.join(sorted(names))}")
        run = values["run"]
        if not (isinstance(run, str) and 0 < len(run) <= _LONGEST_RUN_ID and run.isprintable()):
            raise MalformedError("run is no run's id")
        for name in sorted(names - {"run"} & values.keys()):
            if type(values[name]) is not int or not 0 <= values[name] <= _GREATEST:
                raise MalformedError(f"{name} is not a whole number from 0 to {_GREATEST}")
        return cls(**values)

    @property
    def task_id(self) -> str:
        """A readable id, one for each page of a chain however often it waits: in Flower, a page is one row.

        It carries the generation, so that a later chain never shares one with an older.
        """
        return f"{self.run}:lane-{self.lane:02d}:{self.page:06d}:g{self.generation}"

    def __str__(self) -> str:
        waited = f" waits={self.waits}" if self.waits else ""
        return f"run={self.run} lane={self.lane} page={self.page} generation={self.generation}{waited}"


@dataclass(frozen=True)
class Lane:
    """A lane as the ledger has it.

    `page` is the last one that was committed, 0 before the first; `size`, what the next may hold (None: the run's
    limit); `waits`, how often the next has been put off; `held_until`, until when it is postponed; `reason_kind`, the
    reason in a word that never changes, where a diagnosis gave it.
    """

    number: int
    bounds: Bounds
    cursor: str | None
    page: int
    generation: int
    state: LaneState
    reason: str | None
    counts: Mapping[str, int]
    moved_at: datetime
    size: int | None = None
    waits: int = 0
    held_until: datetime | None = None
    reason_kind: str | None = None

    @property
    def position(self) -> str | None:
        """What the next page starts after."""
        return self.bounds.lower if self.cursor is None else self.cursor

    @property
    def left(self) -> Bounds:
        """What is still to be walked."""
        return Bounds(self.position, self.bounds.upper)

    def as_json(self, classes: Sequence[str], state: str) -> dict[str, Any]:
        """The lane as `status --json` shows it, every one of these classes counted."""
        return {
            "number": self.number,
            "bounds": {"lower": self.bounds.lower, "upper": self.bounds.upper},
            "cursor": self.cursor,
            "state": state,
            "reason": self.reason,
            "reason_kind": self.reason_kind,
            "pages": self.page,
            "generation": self.generation,
            "counts": {name: self.counts.get(name, 0) for name in classes},
        }


@dataclass(frozen=True)
class Run:
    """A run as the ledger has it (or, for a dry run, as the walk found it), with its lanes."""

    id: RunId
    mode: Mode
    state: RunState
    reason: str | None
    parameters: Parameters
    single_batch: bool
    started_at: datetime
    finished_at: datetime | None
    seen_at: datetime
    started_by: str
    ordinal: int
    expected: int | None
    lanes: tuple[Lane, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Items by class, all lanes together."""
        total: Counter[str] = Counter()
        for lane in self.lanes:
            total.update(lane.counts)
        return dict(total)

    def jobs(self, classes: Sequence[str]) -> int:
        """How many jobs it has enqueued, these classes' items being jobs."""
        return sum(self.counts.get(name, 0) for name in classes)

    def jobs_to_come(self, classes: Sequence[str]) -> int | None:
        """About how many more it will enqueue, at the share of its items so far; None: not known."""
        if self.state in ENDED:
            return 0
        read = self.counts.get("read", 0)
        if not self.expected or not read:
            return None
        return round(max(0, self.expected - read) * self.jobs(classes) / read)

    @property
    def pages(self) -> int:
        """Pages done, all lanes together."""
        return sum(lane.page for lane in self.lanes)

    @property
    def has_passed_any(self) -> bool:
        """Whether any lane has passed an item, so that there is something to verify."""
        return any(lane.cursor is not None for lane in self.lanes)

    def still_seconds(self, lane: Lane) -> float:
        """How long a lane had not moved when the run was read."""
        return max(0.0, (self.seen_at - lane.moved_at).total_seconds())

    def state_of(self, lane: Lane) -> LaneState | RunState:
        """A lane's state as one reads it: a lane that has not come to its end stands as its run does."""
        return self.state if lane.state == "running" else lane.state

    @property
    def seconds(self) -> float:
        """From the start to the end, or to the moment this was read."""
        return ((self.finished_at or self.seen_at) - self.started_at).total_seconds()

    @property
    def items_per_second(self) -> float:
        """Items read a second, over the whole of `seconds`."""
        return self.counts.get("read", 0) / self.seconds if self.seconds > 0 else 0.0

    def as_json(self, classes: Sequence[str], jobs: Sequence[str] = ()) -> dict[str, Any]:
        """The run as `run --json` and `status --json` show it, every one of these classes counted.

        `jobs`: the classes whose items are jobs that it has enqueued.
        """
        number, price = self.jobs(jobs), self.parameters.cost_per_job
        return {
            "run_id": self.id,
            "state": self.state,
            "reason": self.reason,
            "mode": self.mode,
            "parameters": self.parameters.as_json(),
            "expected": self.expected,
            "counts": {name: self.counts.get(name, 0) for name in classes},
            "jobs": number,
            "cost": None if price is None else round(number * price, 6),
            "pages": self.pages,
            "lanes": [lane.as_json(classes, self.state_of(lane)) for lane in self.lanes],
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "started_by": self.started_by,
            "seconds": round(self.seconds, 3),
            "items_per_second": round(self.items_per_second, 1),
        }
