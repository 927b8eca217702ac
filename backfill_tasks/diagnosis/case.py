"""A case: one lane that doesn't move, with all that the sources tell of it, and how that is said."""

from dataclasses import dataclass

from backfill_tasks.diagnosis.facts import (
    BrokerView,
    DatabaseSession,
    DatabaseView,
    Facts,
    FleetView,
    Holder,
    WorkerView,
)
from backfill_tasks.engine.model import MESSAGE_FORMAT, Lane, PageMessage, Run
from backfill_tasks.settings import Settings

#: A watchdog that hasn't looked for so many of its intervals, and so many seconds, doesn't run.
_MISSED, _LATE_SECONDS = 3, 10.0

#: A message may be under way for so many seconds before anything may be concluded from where it isn't.
_UNDER_WAY_SECONDS = 5.0


@dataclass(frozen=True)
class Case:
    """A lane that should move and doesn't, with the facts."""

    run: Run
    lane: Lane
    facts: Facts
    settings: Settings

    # ---- what the sources tell

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
        return self.facts.broker or BrokerView(error="it was not asked")

    @property
    def fleet(self) -> FleetView:
        """The workers' view."""
        return self.facts.fleet or FleetView(error="they were not asked")

    @property
    def holder(self) -> Holder | None:
        """The session that has the lane's row locked."""
        return self.database.holders.get((self.run.id, self.lane.number))

    @property
    def queue(self) -> str:
        """The queue in which the lane's message waits for a worker."""
        return self.settings.queue_of_format(MESSAGE_FORMAT)

    @property
    def views(self) -> dict[str, WorkerView]:
        """The workers that answered; one of another version may take pages from this queue."""
        return {name: view or WorkerView(queues=(self.queue,)) for name, view in self.fleet.workers.items()}

    @property
    def consumers(self) -> dict[str, WorkerView]:
        """Those that take pages from this queue."""
        return {name: view for name, view in self.views.items() if self.queue in view.queues}

    @property
    def still_seconds(self) -> float:
        """How long nothing has held the lane and it has not moved."""
        return (self.run.seen_at - max(self.lane.moved_at, self.lane.held_until or self.lane.moved_at)).total_seconds()

    @property
    def is_under_way(self) -> bool:
        """Whether its message may just have been sent, or be between the queue and a worker."""
        return self.task in self.broker.moving or self.still_seconds < _UNDER_WAY_SECONDS

    @property
    def is_watched(self) -> bool:
        """Whether a watchdog runs."""
        age = self.broker.watchdog
        return age is not None and age <= _MISSED * self.settings.watchdog_seconds + _LATE_SECONDS

    # ---- how it is said

    @property
    def silent(self) -> str:
        """That workers don't answer; nothing if all do."""
        if not self.fleet.silent:
            return ""
        verb = "doesn't" if self.fleet.silent == 1 else "don't"
        return (
            f"{self.fleet.silent} of {self.fleet.connected} connected workers {verb} answer: stopped or stuck."
            " Continue or restart what is stopped. "
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
        """Why PostgreSQL can't be used; None if it can."""
        return self.database.error or ("it takes no writes" if self.database.is_read_only else None)

    @property
    def reseeded(self) -> str:
        """Who gives the lane a new message, and when."""
        if not self.is_watched:
            return self.no_beat.lstrip(". ")
        within = max(0.0, self.settings.standing_seconds - self.still_seconds) + self.settings.watchdog_seconds
        return f"The watchdog reseeds the lane within about {within:.0f} s"

    @property
    def no_beat(self) -> str:
        """That no watchdog runs, and what to type; nothing if one does, or if the queue has the message."""
        if self.is_watched or self.task in self.broker.queued:
            return ""
        age = self.broker.watchdog
        looked = "No watchdog has looked" + ("" if age is None else f" for {age:.0f} s")
        return f". {looked}: start beat (celery -A backfill_tasks beat), or type `backfill resume {self.run.id}`"


def named(session: DatabaseSession) -> str:
    """Return a session as an operator finds it in pg_stat_activity."""
    if session.state is None:
        return f"session {session.pid}, of another role"
    since = "" if session.seconds is None else f" for {session.seconds:.0f} s"
    return f"session {session.pid}, {session.application or 'no application name'}, {session.state}{since}"
