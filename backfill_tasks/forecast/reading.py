"""Reads the situation of a run: from its record, its jobs, the host's queue, and the sessions of our own workers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import sqrt

from sqlalchemy import Connection

from backfill_tasks.engine import ledger
from backfill_tasks.engine.admission import sizing
from backfill_tasks.engine.contract import Backfill, Queue
from backfill_tasks.engine.ledger import Event, Span
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Ends, Outcome
from backfill_tasks.forecast.keys import share_walked
from backfill_tasks.forecast.paths import Left
from backfill_tasks.forecast.situation import Drain, Scoring, Situation
from backfill_tasks.options import Pace, Parameters
from backfill_tasks.scoring import sessions
from backfill_tasks.scoring.parameters import UNIT
from backfill_tasks.scoring.sessions import Session

#: The options that change how fast jobs end: what was before a change says nothing about what comes after it.
_DECISIVE = frozenset({"max_pending", "jobs_per_minute", "min_share", "max_live_wait"})

#: The events of `backfill drain` that change it, too.
_DRAIN = frozenset({"drain started", "drain tuned", "drain stopped"})

#: The host's calls over which its live jobs are counted, where no bound measures them.
_CALLS = 5

#: What a lead costs is known after so many, and the pace of a session after so many seconds.
_LEADS, _SECONDS = 20, 60.0


@dataclass(frozen=True)
class Reader:
    """Reads situations. Each takes a few milliseconds beside the outcome, by existing indexes.

    `has_ledger`: without one, there is no earlier run and no session.
    """

    connection: Connection
    backfill: Backfill
    has_ledger: bool = True

    def situation(self, run: Run, found: Outcome) -> Situation:
        """Return a run's situation, given what has become of its jobs."""
        session = self._session()
        happened = ledger.events(self.connection, run.id)
        of_drain = ledger.drain_events(self.connection, 1)
        since = _since(run, [*happened, *of_drain], session)
        ends = found.ends or Ends(1.0, ())
        return Situation(
            state=run.state,
            why=run.reason,
            waiting=found.unended,
            ended=sum(found.jobs.values()) - found.unended,
            to_come=to_come(run, self.backfill.jobs),
            never_due=found.never_due,
            ends=relevant(ends, found.seen_at, since, ledger.pauses(run, happened)),
            due_seconds=0.0 if found.last_due_at is None else max(0.0, _seconds(found.last_due_at, found.seen_at)),
            spacing_seconds=_spacing(run.parameters),
            reserved=self._is_reserved(run.parameters),
            pages_seconds=self._pages_seconds(run),
            pace=run.parameters.pace,
            drain=self.drain(run.parameters.pace),
            scoring=scoring(session),
        )

    def before(self, parameters: Parameters, jobs: int) -> Situation:
        """Return the situation of a run that has not started and will have so many jobs."""
        return Situation(
            state="running",
            waiting=0,
            ended=0,
            to_come=Left(float(jobs)),
            spacing_seconds=_spacing(parameters),
            reserved=self._is_reserved(parameters),
            pace=parameters.pace,
            drain=self.drain(parameters.pace),
            scoring=scoring(self._session()),
        )

    def drain(self, pace: Pace) -> Drain:
        """Return what the host takes in a call: as the bound has measured it, or else as its last calls show."""
        queue = self.backfill.queue
        if queue is None or not self.has_ledger:  # the ledger says which jobs were done here
            return Drain()
        now, bound = ledger.read_bound(self.connection, self.backfill.name)
        if bound is None or not bound.judged or pace.max_pending != "auto":
            return _last_calls(self.connection, queue, now)
        return Drain(
            call_seconds=bound.rhythm.seconds,
            live=bound.live_per_call,
            least=bound.capacity,
            most=None if bound.growing else bound.capacity,
            starved=sizing.starved(bound, now, min_share=pace.min_share / 100),
        )

    def _session(self) -> Session | None:
        newest = sessions.newest(self.connection) if self.has_ledger else None
        return None if newest is None else sessions.read(self.connection, newest)

    def _is_reserved(self, parameters: Parameters) -> bool:
        options = self.backfill.with_defaults(parameters.options)
        return bool(self.backfill.jobs) and not self.backfill.fills_queue(options)

    def _pages_seconds(self, run: Run) -> float | None:
        """Return how long the pages that are left take; None: unknown, or a bound on jobs holds them up."""
        bounded = run.parameters.pace.max_pending is not None and not self._is_reserved(run.parameters)
        read, expected = run.counts.get("read", 0), expected_items(run)
        if run.state != "running" or bounded or not read or expected is None:
            return None
        return max(0.0, expected.jobs - read) / run.items_per_second


def scoring(session: Session | None) -> Scoring:
    """Return what a session says about our own workers; None: there has been none."""
    if session is None:
        return Scoring()
    written = session.written
    ended = written.ended
    cost = session.spent / ended / UNIT if ended >= _LEADS else 0.0
    left = None if session.max_spend is None else (session.max_spend - session.spent - session.reserved) / UNIT
    running = session.state == "running" and session.alive > 0
    reason = "its workers are gone" if session.state == "running" else f"the last session is {session.state}"
    return Scoring(
        running=running,
        per_minute=60 * ended / session.seconds if session.seconds >= _SECONDS and ended else None,
        reach=left / cost if left is not None and cost else None,
        cost=cost,
        spent=session.spent / UNIT,
        parallel=session.slots,
        concurrency=int(session.parameters.get("concurrency", 0)),
        reason="" if running else reason,
    )


def expected_items(run: Run) -> Left | None:
    """Return how many items a run will read: counted before it, or else by the share of its keys; None: unknown."""
    read = run.counts.get("read", 0)
    if run.expected is not None:
        return Left(float(max(run.expected, read)))
    share = share_walked(run.lanes)
    if not share or not read:
        return None
    # Random keys: the number read so far scatters as a Poisson variable does.
    return Left(read / share, sqrt(read) * (1 - share) / share)


def to_come(run: Run, classes: Sequence[str]) -> Left | None:
    """Return how many more jobs a run will enqueue, from its share of jobs so far; None: unknown."""
    if run.state in ("complete", "cancelled"):
        return Left(0.0)
    read, expected = run.counts.get("read", 0), expected_items(run)
    if expected is None or not read:
        return None
    share, items = min(1.0, run.jobs(classes) / read), max(0.0, expected.jobs - read)
    # The share is known as well as so many items tell, and those to come scatter around it.
    of_share = items * sqrt(share * (1 - share) / read)
    return Left(items * share, sqrt(of_share**2 + items * share * (1 - share) + (share * expected.deviation) ** 2))


def relevant(ends: Ends, seen_at: datetime, since: datetime, pauses: Iterable[Span]) -> Ends:
    """Leave out what ended before a time, and buckets within pauses in which nothing ended."""
    spans = [(_seconds(seen_at, each.until), _seconds(seen_at, each.since)) for each in pauses]
    number, oldest = len(ends.counts), _seconds(seen_at, since)
    kept = []
    for place, count in enumerate(ends.counts):
        begins, stops = (number - place) * ends.seconds, (number - place - 1) * ends.seconds
        paused = not count and any(until <= stops and begins <= since for until, since in spans)
        if begins <= oldest + ends.seconds and not paused:
            kept.append(count)
    return replace(ends, counts=kept)


def _since(run: Run, happened: Iterable[Event], session: Session | None) -> datetime:
    """Return since when the present conditions have lasted: the run's options, `backfill drain`, our own workers."""
    tuned = [each.at for each in happened if each.name in _DRAIN or (each.name == "tuned" and _changes_rate(each))]
    worked = [] if session is None else [session.started_at, session.finished_at or session.started_at]
    return max([run.started_at, *tuned, *worked])


def _changes_rate(tuned: Event) -> bool:
    return bool(_DECISIVE & tuned.detail.keys())


def _last_calls(connection: Connection, queue: Queue, now: float) -> Drain:
    """Return what the host has taken in its last calls. If due jobs have waited all the time, the calls were full."""
    seconds = queue.usual.seconds
    until = queue.usual.last(now)
    measured = queue.measure(connection, since=until - (_CALLS - 1) * seconds, until=until)
    taken = measured.taken / _CALLS
    live = (measured.taken - measured.taken_ours) / _CALLS
    return Drain(seconds, live, taken, taken if measured.left and taken else None)


def _spacing(parameters: Parameters) -> float | None:
    if parameters.pace.spacing_ms is not None:
        return parameters.pace.spacing_ms / 1000
    delay_ms = parameters.options.get("delay_ms")
    return delay_ms / 1000 if delay_ms else None


def _seconds(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds()
