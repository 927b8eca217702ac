"""What each source reports: PostgreSQL, Redis, the workers. A source that fails reports why."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backfill_tasks.engine.model import RunId

#: A lane: its run's id and its number.
Key = tuple[RunId, int]


@dataclass(frozen=True)
class DatabaseSession:
    """A PostgreSQL session. `application` and `state` are None if this role may not see them."""

    pid: int
    application: str | None
    state: str | None
    seconds: float | None


@dataclass(frozen=True)
class LockOwner:
    """The session that has locked a lane's row, and the session that it is itself waiting for, if any.

    `is_page`: the session is one of ours, so it is doing the lane's page.
    """

    session: DatabaseSession
    is_page: bool
    blocker: DatabaseSession | None


@dataclass(frozen=True)
class DatabaseView:
    """PostgreSQL, over a fresh connection. `holds`: the kind of reason for each lane's last postponement."""

    error: str | None = None
    is_read_only: bool = False
    lock_owners: Mapping[Key, LockOwner] = field(default_factory=dict)
    holds: Mapping[Key, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BrokerView:
    """Redis. `refusal`: why it refuses writes. `watchdog`: how many seconds ago the watchdog made its last pass.

    `queued`: task ids in the queue. `taken`: task ids that a worker has taken and not acknowledged. `moving`: task ids
    that changed place between two looks.
    """

    error: str | None = None
    refusal: str | None = None
    queued: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()
    moving: frozenset[str] = frozenset()
    watchdog: float | None = None
    rate: str | None = None


@dataclass(frozen=True)
class WorkerView:
    """A worker that answered. Its messages by task id: running (for seconds), due later (in seconds), or waiting."""

    queues: tuple[str, ...] = ()
    processes: int = 0
    working: Mapping[str, float] = field(default_factory=dict)
    later: Mapping[str, float] = field(default_factory=dict)
    for_rate: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()

    @property
    def is_busy(self) -> bool:
        """Whether all its processes are busy."""
        return len(self.working) >= self.processes


@dataclass(frozen=True)
class FleetView:
    """The workers. `connected`: how many the broadcast reached. A worker of another version reports nothing: None."""

    error: str | None = None
    connected: int = 0
    workers: Mapping[str, WorkerView | None] = field(default_factory=dict)

    @property
    def silent(self) -> int:
        """How many are connected but didn't answer."""
        return max(0, self.connected - len(self.workers))


@dataclass(frozen=True)
class Facts:
    """The views of all sources; None: the source wasn't queried."""

    database: DatabaseView | None = None
    broker: BrokerView | None = None
    fleet: FleetView | None = None
