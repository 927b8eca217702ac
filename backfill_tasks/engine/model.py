"""The engine's data model: a run, its lanes and pages, and the messages between them."""

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
    """A range of ids in the database's sort order: lower exclusive (None: the beginning), upper inclusive."""

    lower: str | None
    upper: str


@dataclass(frozen=True)
class Window:
    """What a page may read: ids within `bounds`, at most `limit` items, scanning at most `rows` rows to find them."""

    bounds: Bounds
    limit: int
    rows: int


@dataclass(frozen=True)
class PageResult:
    """The result of a page.

    Attributes:
        cursor: the last id the page has passed; equal to the window's upper bound when nothing is left of the window.
        counts: items by class.
        numbered: the number of the run's ordinals the page used (see `Backfill.needs_ordinals`).
        due_at: the due time of the page's last item, if items are spread (see `PageContext.spacing_ms`).
        enqueued: the ids of the items whose jobs the page wrote; from then on these jobs are the run's own.
    """

    cursor: str
    counts: Mapping[str, int]
    numbered: int = 0
    due_at: datetime | None = None
    enqueued: Sequence[str] = ()


@dataclass(frozen=True)
class Quarantined:
    """An item that a page couldn't handle, and the error on one line that repeats no value of its row."""

    item: str
    error: str
    refusal: Refusal | None = None


#: The version of the message format, incremented with every change to PageMessage's fields or their meaning. Each
#: message carries it, and it is part of the queue's name.
MESSAGE_FORMAT = 2

#: Limits of the ledger's columns and of a log line.
_GREATEST = 2**31 - 1
_LONGEST_RUN_ID = 100


@dataclass(frozen=True)
class PageMessage:
    """The page that a task is to do: the only payload sent through the broker.

    `waits` is the number of times the page has been postponed. Each postponement sends a new message with the next
    number, so a duplicate delivery never leads to a second chain.
    """

    run: RunId
    lane: int
    page: int
    generation: int
    waits: int = 0

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "PageMessage":
        """Parse the fields of a message. The values are untrusted: anyone with access to the broker can write them.

        Raises:
            MalformedError: they aren't the fields of a page's message.
        """
        names = {each.name for each in fields(cls)}
        needed = {each.name for each in fields(cls) if each.default is MISSING}
        if not needed <= values.keys() <= names:
            raise MalformedError(f"the task's arguments must be {', '.join(sorted(names))}")
        run = values["run"]
        if not (isinstance(run, str) and 0 < len(run) <= _LONGEST_RUN_ID and run.isprintable()):
            raise MalformedError("run is not a run id")
        for name in sorted(names - {"run"} & values.keys()):
            if type(values[name]) is not int or not 0 <= values[name] <= _GREATEST:
                raise MalformedError(f"{name} is not a whole number from 0 to {_GREATEST}")
        return cls(**values)

    @property
    def task_id(self) -> str:
        """A readable task id, the same for a page however often it waits: in Flower, a page is one row.

        It includes the generation, so chains of different generations never share an id.
        """
        return f"{self.run}:lane-{self.lane:02d}:{self.page:06d}:g{self.generation}"

    def __str__(self) -> str:
        waited = f" waits={self.waits}" if self.waits else ""
        return f"run={self.run} lane={self.lane} page={self.page} generation={self.generation}{waited}"


@dataclass(frozen=True)
class Lane:
    """A lane as recorded in the ledger.

    `page` is the last committed page, 0 before the first; `size`, the limit of the next page (None: the run's limit);
    `waits`, how often the next page has been postponed; `held_until`, when its postponement ends; `reason_kind`, a
    constant word for the reason if a diagnosis set it.
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
        """The key after which the next page starts."""
        return self.bounds.lower if self.cursor is None else self.cursor

    @property
    def left(self) -> Bounds:
        """The range still to be walked."""
        return Bounds(self.position, self.bounds.upper)

    def as_json(self, classes: Sequence[str], state: str) -> dict[str, Any]:
        """Return the lane as shown by `status --json`, with a count for each of these classes."""
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
    """A run with its lanes, as recorded in the ledger, or as counted so far by a dry run."""

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
        """Items by class, over all lanes."""
        total: Counter[str] = Counter()
        for lane in self.lanes:
            total.update(lane.counts)
        return dict(total)

    def jobs(self, classes: Sequence[str]) -> int:
        """Return the number of jobs the run has enqueued, given the classes whose items are jobs."""
        return sum(self.counts.get(name, 0) for name in classes)

    def jobs_to_come(self, classes: Sequence[str]) -> int | None:
        """Estimate how many more jobs the run will enqueue, from its share of jobs so far; None if unknown."""
        if self.state in ENDED:
            return 0
        read = self.counts.get("read", 0)
        if not self.expected or not read:
            return None
        return round(max(0, self.expected - read) * self.jobs(classes) / read)

    @property
    def pages(self) -> int:
        """The number of committed pages, over all lanes."""
        return sum(lane.page for lane in self.lanes)

    @property
    def has_passed_any(self) -> bool:
        """Whether a lane has passed an item, so that there is something to verify."""
        return any(lane.cursor is not None for lane in self.lanes)

    def still_seconds(self, lane: Lane) -> float:
        """Return how many seconds a lane had not moved when the run was read."""
        return max(0.0, (self.seen_at - lane.moved_at).total_seconds())

    def state_of(self, lane: Lane) -> LaneState | RunState:
        """Return a lane's state for display: that of its run while the lane is unfinished."""
        return self.state if lane.state == "running" else lane.state

    @property
    def seconds(self) -> float:
        """The seconds from the run's start to its end, or to the moment it was read."""
        return ((self.finished_at or self.seen_at) - self.started_at).total_seconds()

    @property
    def items_per_second(self) -> float:
        """Items read per second, averaged over `seconds`."""
        return self.counts.get("read", 0) / self.seconds if self.seconds > 0 else 0.0

    def as_json(self, classes: Sequence[str], jobs: Sequence[str] = ()) -> dict[str, Any]:
        """Return the run as shown by `run --json` and `status --json`, with a count for each of these classes.

        `jobs`: the classes whose items are jobs that the run has enqueued.
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
