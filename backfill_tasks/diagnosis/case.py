"""A case: one lane that doesn't move, everything that the sources report about it, and phrases to describe it."""

from dataclasses import dataclass

from backfill_tasks.diagnosis.facts import (
    BrokerView,
    DatabaseSession,
    DatabaseView,
    Facts,
    FleetView,
    LockOwner,
    WorkerView,
)
from backfill_tasks.engine.model import MESSAGE_FORMAT, Lane, PageMessage, Run
from backfill_tasks.settings import Settings

#: A watchdog isn't running if its last pass is longer ago than this many of its intervals plus this many seconds.
_MISSED, _LATE_SECONDS = 3, 10.0

#: For this many seconds a message may be in transit, so its absence from a place proves nothing.
_UNDER_WAY_SECONDS = 5.0


@dataclass(frozen=True)
class Case:
    """A lane that should move and doesn't, with the facts."""

    run: Run
    lane: Lane
    facts: Facts
    settings: Settings

    # ---- what the sources report

    @property
    def task(self) -> str:
        """The task id of the message that should be on its way."""
        return PageMessage(self.run.id, self.lane.number, self.lane.page + 1, self.lane.generation).task_id

    @property
    def database(self) -> DatabaseView:
        """PostgreSQL's view."""
        return self.facts.database or DatabaseView()

    @property
    def broker(self) -> BrokerView:
        """Redis' view."""
        return self.facts.broker or BrokerView(error="it was not queried")

    @property
    def fleet(self) -> FleetView:
        """The workers' view."""
        return self.facts.fleet or FleetView(error="they were not queried")

    @property
    def lock_owner(self) -> LockOwner | None:
        """The session that has locked the lane's row."""
        return self.database.lock_owners.get((self.run.id, self.lane.number))

    @property
    def queue(self) -> str:
        """The queue in which the lane's message waits for a worker."""
        return self.settings.queue_of_format(MESSAGE_FORMAT)

    @property
    def views(self) -> dict[str, WorkerView]:
        """The workers that answered. A worker of another version is assumed to take pages from this queue."""
        return {name: view or WorkerView(queues=(self.queue,)) for name, view in self.fleet.workers.items()}

    @property
    def consumers(self) -> dict[str, WorkerView]:
        """The workers that take pages from this queue."""
        return {name: view for name, view in self.views.items() if self.queue in view.queues}

    @property
    def still_seconds(self) -> float:
        """How many seconds the lane has not moved without being postponed."""
        return (self.run.seen_at - max(self.lane.moved_at, self.lane.held_until or self.lane.moved_at)).total_seconds()

    @property
    def is_under_way(self) -> bool:
        """Whether the message may have been sent just now, or be between the queue and a worker."""
        return self.task in self.broker.moving or self.still_seconds < _UNDER_WAY_SECONDS

    @property
    def is_watched(self) -> bool:
        """Whether a watchdog is running."""
        age = self.broker.watchdog
        return age is not None and age <= _MISSED * self.settings.watchdog_seconds + _LATE_SECONDS

    # ---- phrases

    @property
    def silent(self) -> str:
        """That some workers don't answer; empty if all do."""
        if not self.fleet.silent:
            return ""
        verb, state, them = ("doesn't", "it is", "it") if self.fleet.silent == 1 else ("don't", "they are", "them")
        return (
            f"{self.fleet.silent} of {self.fleet.connected} connected workers {verb} answer: {state} stopped or stuck."
            f" Continue or restart {them}. "
        )

    @property
    def place(self) -> str:
        """Where the lane's message is."""
        if self.task in self.broker.queued:
            return "its page waits in the queue"
        if self.task in self.broker.taken:
            return "its page's message was taken by a worker and not acknowledged"
        return "its page's message is in no queue"

    @property
    def trouble(self) -> str | None:
        """Why PostgreSQL can't be used, or None if it can."""
        return self.database.error or ("it accepts no writes" if self.database.is_read_only else None)

    @property
    def reseeded(self) -> str:
        """When the watchdog will reseed the lane; without a watchdog, what to type."""
        if not self.is_watched:
            return self.no_beat.lstrip(". ")
        within = max(0.0, self.settings.standing_seconds - self.still_seconds) + self.settings.watchdog_seconds
        return f"The watchdog reseeds the lane within about {within:.0f} s"

    @property
    def no_beat(self) -> str:
        """That no watchdog is running, and what to type; empty if one is, or if the message is in the queue."""
        if self.is_watched or self.task in self.broker.queued:
            return ""
        age = self.broker.watchdog
        looked = "No watchdog has run" + ("" if age is None else f" for {age:.0f} s")
        return f". {looked}: start beat (backfill beat), or type `backfill resume {self.run.id}`"


def named(session: DatabaseSession) -> str:
    """Describe a session so that an operator can find it in pg_stat_activity."""
    if session.state is None:
        return f"session {session.pid} of another role"
    since = "" if session.seconds is None else f" for {session.seconds:.0f} s"
    return f"session {session.pid}, {session.application or 'no application name'}, {session.state}{since}"
