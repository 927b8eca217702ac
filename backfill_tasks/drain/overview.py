"""The drain as a reader sees it: its record, its totals and its latest events, as of one moment."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from backfill_tasks.drain import ledger
from backfill_tasks.drain.ledger import Drain, Total
from backfill_tasks.engine.ledger import Event, drain_events

#: How many events are shown.
_EVENTS = 10

#: Workers look every few seconds. If none has looked for this long, none does.
_DESERTED_SECONDS = 30.0


@dataclass(frozen=True)
class Overview:
    """The drain with its totals by result and its latest events, oldest first. `drain`: None if there has been none."""

    drain: Drain | None
    totals: Sequence[Total] = ()
    events: Sequence[Event] = ()

    @property
    def is_deserted(self) -> bool:
        """Whether the drain is on and no worker looks after it."""
        drain = self.drain
        if drain is None or not drain.is_active:
            return False
        started = (drain.seen_at - drain.started_at).total_seconds()
        return (started if drain.looked_seconds is None else drain.looked_seconds) > _DESERTED_SECONDS

    @property
    def jobs(self) -> dict[str, int]:
        """The jobs that the host has reported for all calls, by what became of them."""
        names = ("processed", "succeeded", "failed", "retried", "skipped", "released")
        return {name: sum(getattr(total, name) for total in self.totals) for name in names}

    def as_json(self) -> dict[str, Any]:
        """Return the overview as shown by `backfill drain --json`."""
        drain = self.drain
        if drain is None:
            return {"state": "off"}
        next_call_at = drain.seen_at + timedelta(seconds=max(0.0, drain.until_next))
        return {
            "state": drain.state,
            "kind": drain.kind,
            "reason": drain.reason,
            "since": drain.since.isoformat(),
            "next_call_at": next_call_at.isoformat(timespec="milliseconds") if drain.is_active else None,
            "orders": asdict(drain.orders),
            "started_by": drain.started_by,
            "started_at": drain.started_at.isoformat(),
            "in_flight": drain.in_flight,
            "failures": drain.failures,
            "failure_rate": drain.failure_rate,
            "per_minute": drain.per_minute,
            "calls": {total.result: total.calls for total in self.totals},
            "jobs": self.jobs,
            "last_answer": drain.last
            and {"at": drain.last.at.isoformat(), "result": drain.last.result, "shown": drain.last.shown},
            "holder": drain.holder,
            "looked_seconds": drain.looked_seconds,
            "events": [
                {"at": each.at.isoformat(), "event": each.name, "detail": dict(each.detail), "by": each.who}
                for each in self.events
            ],
        }


def overview(connection: Connection, *, call_seconds: float) -> Overview:
    """Return the drain as of now. A call takes `call_seconds` at the longest."""
    drain = ledger.read(connection, call_seconds=call_seconds)
    return Overview(drain, ledger.totals(connection), drain_events(connection, _EVENTS))
