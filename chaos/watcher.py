"""Watches a run while faults are played: do its lanes move, does `status` explain stalled lanes, does a program end?

The watcher reads movement from the ledger, bypassing the proxies, as a superuser with reserved connections. It calls
`status` as the operator does, through the proxies.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from chaos.findings import SILENCE_SECONDS, Findings
from chaos.fleet import Answer, Fleet
from chaos.schedule import BY_NAME, Part

MOVEMENT_SECONDS = 0.25
STATUS_SECONDS = 2.0
PROGRAMS_SECONDS = 0.5

#: For each `reason_kind` that only a fault can cause, the part that the fault must hit.
_NEEDS: Mapping[str, Part] = {
    "database_unreachable": "postgres",
    "database_read_only": "postgres",
    "redis_unreachable": "redis",
    "redis_refuses_writes": "redis",
}

_LANES = b"""
SELECT lane.number, lane.page, lane.state, run.state
FROM backfill.lane JOIN backfill.run ON run.id = lane.run_id
"""


@dataclass
class Lane:
    """A lane as last seen, and since when it hasn't moved, by the monotonic clock."""

    page: int
    state: str
    moved: float


class Watcher:
    """Watches one run. Any thread may read its answers."""

    def __init__(self, fleet: Fleet, run: str, findings: Findings) -> None:
        self._fleet = fleet
        self._run = run
        self._findings = findings
        self._lanes: dict[int, Lane] = {}
        self._state = "running"
        self._runs_since = time.monotonic()
        self._sees_since: float | None = None
        #: When the last completed look began.
        self._looked = time.monotonic()
        self._blinded = 0
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    @contextmanager
    def watching(self) -> Iterator["Watcher"]:
        """Watch while the block runs."""
        work = ((self._look, MOVEMENT_SECONDS), (self._ask, STATUS_SECONDS), (self._supervise, PROGRAMS_SECONDS))
        threads = [threading.Thread(target=self._repeat, args=each, name=each[0].__name__) for each in work]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
            self._disconnect()

    @contextmanager
    def blinded(self) -> Iterator[None]:
        """Expect no answer from `status` while the block runs."""
        with self._lock:
            self._blinded += 1
        try:
            yield
        finally:
            with self._lock:
                self._blinded -= 1
                self._sees_since = None

    # ---- what is known

    @property
    def state(self) -> str:
        """The run's state as last seen."""
        with self._lock:
            return self._state

    def moved_since(self, moment: float) -> bool:
        """Return whether every lane that isn't done has done a page after a moment."""
        with self._lock:
            return bool(self._lanes) and all(
                lane.state == "done" or lane.moved > moment for lane in self._lanes.values()
            )

    def stuck_since(self, moment: float) -> list[int]:
        """Return the numbers of the lanes that haven't moved since a moment."""
        with self._lock:
            return [number for number, lane in self._lanes.items() if lane.state != "done" and lane.moved <= moment]

    # ---- looking

    def _repeat(self, work: Callable[[], None], seconds: float) -> None:
        while not self._over.wait(seconds):
            work()

    def _look(self) -> None:
        began = time.monotonic()
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._fleet.host_url,
                    autocommit=True,
                    application_name="watcher",
                    connect_timeout=3,
                    options="-c statement_timeout=5s",
                )
            rows = self._connection.execute(_LANES).fetchall()
        except psycopg.Error:
            self._disconnect()
            with self._lock:
                self._sees_since = None
                self._looked = began
            return
        with self._lock:
            self._note(rows, time.monotonic())
            self._looked = began

    def _note(self, rows: list[tuple[Any, ...]], now: float) -> None:
        if self._blinded:
            self._sees_since = None
        elif self._sees_since is None:
            self._sees_since = now
        for number, page, state, run_state in rows:
            lane = self._lanes.get(number)
            if lane is None or (lane.page, lane.state) != (page, state):
                self._lanes[number] = Lane(page, state, now)
            if run_state == "running" and self._state != "running":
                self._runs_since = now
            self._state = run_state
            if run_state == "failed":
                self._findings.violation("run failed", f"lane {number} is {state}")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # ---- asking

    def _ask(self) -> None:
        silent = self._silent()
        answer = self._fleet.command("status", self._run, "--json")
        # A lane counts only if the watcher saw it stalled from before the question until after the answer.
        answered = time.monotonic()
        while self._looked < answered and not self._over.is_set():
            time.sleep(MOVEMENT_SECONDS)
        silent = {number: since for number, since in silent.items() if self._silent().get(number) == since}
        if not silent:
            return
        lanes = self._lanes_told(answer)
        for number, since in silent.items():
            lane = lanes.get(number, {})
            if lane.get("reason"):
                self._note_reason(number, lane["reason"], lane.get("reason_kind"), since)
            else:
                stalled = f"lane {number} stalled without a reason (since {since:.0f})"
                self._findings.violation("silence", stalled, since=since)

    def _note_reason(self, number: int, reason: str, kind: str | None, since: float) -> None:
        """Record a reason. A reason that needs a fault that wasn't active is untrue, and a violation."""
        self._findings.reason(reason, kind, since=since)
        needs = _NEEDS.get(kind or "")
        if needs and not any(BY_NAME[each].part == needs for each in self._findings.suspects(since)):
            self._findings.violation("untrue reason", f"lane {number}: {kind}: {reason}", since=since)

    def _silent(self) -> dict[int, float]:
        """Return the lanes that have been stalled long enough to need a reason, and since when."""
        with self._lock:
            if self._state != "running" or self._sees_since is None:
                return {}
            seen = max(self._sees_since, self._runs_since)
            now = time.monotonic()
            return {
                number: lane.moved
                for number, lane in self._lanes.items()
                if lane.state == "running" and now - max(lane.moved, seen) > SILENCE_SECONDS
            }

    def _lanes_told(self, answer: Answer) -> dict[int, dict[str, Any]]:
        """Return what `status` says of each lane, by number."""
        if answer.status is None:
            self._findings.violation("status gave no answer", "it hung")
            return {}
        try:
            return {lane["number"]: lane for lane in json.loads(answer.output)["lanes"]}
        except (ValueError, KeyError):
            said = (answer.errors.strip().splitlines() or ["nothing"])[-1]
            self._findings.violation("status gave no answer", f"exit {answer.status}: {said}")
            return {}

    # ---- supervising

    def _supervise(self) -> None:
        for program in self._fleet.programs:
            status = program.ended_by_itself()
            if status is not None:
                self._findings.violation("process ended by itself", f"{program.name} with {status}")
                program.start()
