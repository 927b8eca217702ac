"""Query the sources, each with its own deadline, and give each lane that doesn't move its reason."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from backfill_tasks.diagnosis import database, rules
from backfill_tasks.diagnosis.facts import BrokerView, DatabaseView, Facts, FleetView, Key
from backfill_tasks.diagnosis.reasons import needs_reason
from backfill_tasks.diagnosis.rules import Reason
from backfill_tasks.engine.database import Address
from backfill_tasks.engine.model import Lane, Run
from backfill_tasks.settings import Settings

T = TypeVar("T")

#: For this many seconds after a postponement ends, its reason is still the true one: the page asks again in this time.
_GRACE_SECONDS = 3.0

#: The maximum wait for each source, in seconds, whatever the source itself waits for.
_BROKER_SECONDS, _DATABASE_SECONDS, _FLEET_SECONDS = 2.0, 4.0, 5.0


@dataclass(frozen=True)
class Diagnoser:
    """Diagnoses runs: each lane that doesn't move gets a reason.

    A source that is down, slow or frozen costs its own answer and its own deadline, and no other source's. Only sources
    that could explain the lanes in question are queried: a run whose lanes move costs nothing, one whose pages are
    postponed a short connection to PostgreSQL; Celery is imported only for a lane that stalls.

    Weakness: the sources are queried within seconds of each other, not at the same instant, so a lane that moves
    meanwhile may get a reason that was true a moment earlier.
    """

    settings: Settings
    address: Address

    def diagnose(self, runs: Sequence[Run]) -> dict[Key, Reason]:
        """Return the reason for every lane of these runs that doesn't move."""
        found: dict[Key, Reason] = {}
        open_lanes: list[tuple[Run, Lane]] = []
        for run in runs:
            for lane in run.lanes:
                if not needs_reason(run, lane):
                    continue
                if lane.state == "failed":
                    found[run.id, lane.number] = Reason("failed", lane.reason or "")
                elif run.state != "running":
                    found[run.id, lane.number] = rules.of_an_inactive_run(run)
                elif _waits_for_resume(run, lane):
                    found[run.id, lane.number] = Reason(
                        "single_batch", f"not part of the single batch. To walk it: backfill resume {run.id}"
                    )
                else:
                    open_lanes.append((run, lane))
        facts = self._facts(open_lanes)
        for run, lane in open_lanes:
            if _is_held(run, lane):
                found[run.id, lane.number] = rules.of_a_held_lane(run, lane, facts)
            else:
                found[run.id, lane.number] = rules.of_a_stalled_lane(run, lane, facts, self.settings)
        return found

    def _facts(self, lanes: Sequence[tuple[Run, Lane]]) -> Facts:
        if all(_is_held(run, lane) and lane.reason is None for run, lane in lanes):
            return Facts()
        keys = [(run.id, lane.number) for run, lane in lanes]
        asked = _Asked(lambda: database.ask(self.address, keys), _DATABASE_SECONDS)
        broker_view = fleet_view = None
        if any(not _is_held(run, lane) for run, lane in lanes):
            broker_view, fleet_view = self._messages()
        return Facts(asked.answer(lambda why: DatabaseView(error=why)), broker_view, fleet_view)

    def _messages(self) -> tuple[BrokerView, FleetView | None]:
        """Query Redis, and, if it answers, the workers, which can only be reached through it."""
        before = self._broker()
        if before.error is not None or before.refusal is not None:
            return before, None
        # Celery takes half a second to import, seconds on a busy machine: none of the workers' time to answer.
        from backfill_tasks.diagnosis import workers  # noqa: PLC0415

        fleet = _Asked(workers.ask, _FLEET_SECONDS).answer(lambda why: FleetView(error=why))
        after = self._broker()
        moving = (before.queued ^ after.queued) | (before.taken ^ after.taken)
        return replace(after, moving=moving), fleet

    def _broker(self) -> BrokerView:
        from backfill_tasks.diagnosis import broker  # noqa: PLC0415  see engine/redis_client.py

        asked = _Asked(lambda: broker.ask(self.settings), _BROKER_SECONDS)
        return asked.answer(lambda why: BrokerView(error=why))


def _waits_for_resume(run: Run, lane: Lane) -> bool:
    """Return whether a lane of a single-batch run is not the one being walked."""
    return run.single_batch and lane.number != min(each.number for each in run.lanes if each.state == "running")


def _is_held(run: Run, lane: Lane) -> bool:
    """Return whether the ledger postpones the lane's page, or did until a moment ago."""
    if lane.held_until is None:
        return False
    left = (lane.held_until - run.seen_at).total_seconds()
    return left > 0 or (lane.reason is not None and left > -_GRACE_SECONDS)


class _Asked(Generic[T]):
    """A query in a daemon thread of its own: one that hangs delays neither the other queries nor the exit."""

    def __init__(self, ask: Callable[[], T], seconds: float) -> None:
        self._answers: list[T] = []
        self._error: str | None = None
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._thread = threading.Thread(target=self._go, args=[ask], daemon=True)
        self._thread.start()

    def _go(self, ask: Callable[[], T]) -> None:
        try:
            self._answers.append(ask())
        except Exception as error:  # noqa: BLE001  a failing source is a fact like any other
            first, *_ = str(error).splitlines() or [""]
            self._error = f"{type(error).__name__}: {first}"

    def answer(self, otherwise: Callable[[str], T]) -> T:
        """Return the answer, or `otherwise` applied to the reason why there is none."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._answers:
            return self._answers[0]
        return otherwise(self._error or f"no answer within {self._seconds:g} s")
