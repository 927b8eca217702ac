"""The host's scoring rules, as a backfill."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Self

from sqlalchemy import Connection

from backfill_tasks.backfills.host import Leads
from backfill_tasks.backfills.host.leads import CLIENT_IDS, naive, stretch_values, window_values
from backfill_tasks.backfills.lead_scoring import distribution
from backfill_tasks.backfills.lead_scoring.explanation import explain
from backfill_tasks.backfills.lead_scoring.queue import USUAL_DRAIN_SECONDS, Drain, JobQueue, LiveQueueAge
from backfill_tasks.engine.admission.indicators import Indicator
from backfill_tasks.engine.contract import Backlog, Host, PageClaim, PageContext, RowChanged, Stretch
from backfill_tasks.engine.distribution import Distribution
from backfill_tasks.engine.explanation import Explanation, Now, Passage
from backfill_tasks.engine.model import Bounds, PageResult, Run, Window
from backfill_tasks.engine.outcome import ENOUGH_SECONDS, LATELY_SECONDS, Ends, Outcome, bucket_seconds
from backfill_tasks.kinds import Flag, Whole
from backfill_tasks.options import Option, Pace, Values
from backfill_tasks.scoring.contract import HIGHEST, LOWEST
from backfill_tasks.scoring.jobs import DISQUALIFIED_REASONING, DISQUALIFYING, HOLDER_PREFIX, KEY_PREFIX

RESCORE_ALL = Option("rescore_all", Flag(), "Scored leads too (default: unscored ones only).", default=False)

DELAY_MS = Option(
    "delay_ms",
    Whole(0, 86_400_000),
    "Make the n-th job of the run due n times N milliseconds after the run's start.",
    default=0,
    group="compatibility",
    excludes="jobs_per_minute",
)

SCORE_HERE = Option(
    "score_here",
    Flag(),
    "Reserve the jobs for `backfill work`: the host's runner doesn't see them before --reserve-hours.",
    default=False,
    excludes="delay_ms",
    # Reserved jobs don't stand in the host's queue, so its length and its live jobs' wait bound nothing. Should our
    # workers vanish, the host takes over at the pace of its older revision, 10 jobs a minute.
    implies=MappingProxyType({"max_pending": None, "max_live_wait": 0.0, "jobs_per_minute": 10.0}),
    added_later=True,
)

RESERVE_HOURS = Option(
    "reserve_hours",
    Whole(1, 720),
    "With --score-here: let the host's runner take over after N hours, spread by --jobs-per-minute.",
    default=24,
    group="pace",
    added_later=True,
)

_MAX_ATTEMPTS = 3

#: How many due jobs are read to find a live one while the drain is on: some 10 ms by index.
_MOST_DUE = 20_000

#: The job statuses that are always shown, even with a count of 0.
_STATUSES = ("PENDING", "RUNNING", "SUCCEEDED", "FAILED")

#: What a lead waits for while its job hasn't ended.
_WAITING = ("due", "later", "running", "never_due")


@dataclass(frozen=True)
class LeadScoring(Leads):
    """Enqueues a scoring job for every eligible lead without a score.

    `drain` is when the host takes jobs out of its queue.
    """

    name = "lead-scoring"
    summary = "enqueue a scoring job for every lead without a score"
    classes = MappingProxyType(
        {
            "inserted": "job created",
            "requeued": "job had ended, set to PENDING again",
            "refreshed": "job was PENDING, updated",
            "in_flight": "job RUNNING or of unknown status, left alone",
            "disqualified": "scored 1, no job",
        }
    )
    passed_over = MappingProxyType({"already_scored": "have a score", "no_inbound": "never wrote to us"})
    options = (CLIENT_IDS, RESCORE_ALL, SCORE_HERE, RESERVE_HOURS, DELAY_MS)
    jobs = ("inserted", "requeued")
    enqueues = ("inserted", "requeued", "refreshed")
    leaves_alone = ("in_flight",)
    result = "score"
    done = "scored"
    done_by = MappingProxyType({"host": "by the host", "here": "here", "otherwise": "not by their job"})
    unresolved = MappingProxyType(
        {
            "failed": "their job FAILED: its lastError says why",
            "without_score": "their job SUCCEEDED and left no score",
            "unknown_status": "a job status that this version doesn't know",
        }
    )
    vanished = MappingProxyType(
        {"removed": "their job was deleted before it gave a score", "gone": "the lead was deleted, and its job with it"}
    )
    invalid = "a score outside 1 to 4"
    rights: ClassVar[Mapping[str, str]] = {
        "Client": "SELECT",
        "Message": "SELECT",
        "Lead": "SELECT, UPDATE",
        "BackgroundJob": "SELECT, INSERT, UPDATE",
    }

    drain: Drain = field(default_factory=Drain)

    def on(self, host: Host) -> Self:
        """Return this backfill with the host's schema, and with the time of the host's drain from the settings."""
        settings = host.settings
        return replace(super().on(host), drain=Drain(settings.drain_seconds or 0.0, settings.drain_lead_seconds))

    def split(
        self, connection: Connection, options: Values, *, after: str | None, lanes: int, smallest: int
    ) -> list[str]:
        """Return the bounds of lanes with equal numbers of eligible leads, counted in one pass over the ids."""
        values = {"after": after, "lanes": lanes, "smallest": smallest, **_filters(options)}
        return list(connection.execute(self.file("host/lanes.sql", leads="lead_scoring/split.sql"), values).scalars())

    def page(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Disqualify, upsert and count one page in one statement."""
        values = {
            **window_values(window),
            **_filters(context.options),
            "disqualifying": list(DISQUALIFYING),
            "key_prefix": KEY_PREFIX,
            "disqualified_reasoning": DISQUALIFIED_REASONING,
            "max_attempts": _MAX_ATTEMPTS,
            "delay_ms": context.options["delay_ms"],
            "started_at": naive(context.started_at),
            "ordinal": context.ordinal,
            "spacing_ms": context.spacing_ms or 0.0,
            "due_at": context.due_at and naive(context.due_at),
            "reserve_seconds": _reserve_seconds(context.options),
            "drain_seconds": 0.0 if context.at_once else self.drain.seconds,
            "drain_lead_seconds": self.drain.lead_seconds,
        }
        row = connection.execute(self.file("lead_scoring/page.sql"), values).one()
        counts = {name: getattr(row, name) for name in ("read", *self.classes)}
        if sum(counts[name] for name in self.classes) != row.read:
            raise RowChanged
        if not (self.needs_ordinals(context.options) or context.spacing_ms):
            return PageResult(row.cursor, counts, enqueued=row.enqueued)
        numbered = row.inserted + row.requeued + row.refreshed
        return PageResult(row.cursor, counts, numbered, row.due_at and row.due_at.replace(tzinfo=UTC), row.enqueued)

    def dry_run(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Count one page through the same selection."""
        values = {
            **window_values(window),
            **_filters(context.options),
            "disqualifying": list(DISQUALIFYING),
            "key_prefix": KEY_PREFIX,
        }
        row = connection.execute(self.file("lead_scoring/dry_run.sql"), values).one()
        counts = {name: getattr(row, name) for name in ("read", *self.classes, *self.passed_over)}
        return PageResult(row.cursor, counts)

    def verify(self, connection: Connection, window: Window, context: PageContext) -> Stretch:
        """Find eligible leads that have neither job nor score, and jobs that ended without a score."""
        return self._verify("verify.sql", connection, context, window_values(window))

    def verify_full(self, connection: Connection, stretches: Sequence[Bounds], context: PageContext) -> Stretch:
        """Find the same by hash joins of whole tables."""
        return self._verify("verify_full.sql", connection, context, stretch_values(stretches))

    def _verify(self, file: str, connection: Connection, context: PageContext, bounds: Mapping[str, Any]) -> Stretch:
        values = {
            **bounds,
            **_filters(context.options),
            "disqualifying": list(DISQUALIFYING),
            "key_prefix": KEY_PREFIX,
            "started_at": naive(context.started_at),
            "lowest": LOWEST,
            "highest": HIGHEST,
        }
        row = connection.execute(self.file("lead_scoring/verdict.sql", leads=f"lead_scoring/{file}"), values).one()
        return Stretch(
            row.cursor,
            row.missing,
            row.arrived,
            row.looked_at,
            {name: getattr(row, name) for name in self.unresolved},
            row.waiting,
            invalid=row.invalid,
        )

    def recount_full(self, connection: Connection, claims: Sequence[PageClaim]) -> Sequence[dict[str, int]]:
        """Count the same by hash joins of whole tables; rows are matched to pages by their times."""
        written = [(number, claim, at) for number, claim in enumerate(claims) for at in claim.times]
        values = {
            "numbers": [number for number, _, _ in written],
            "lowers": [claim.lower for _, claim, _ in written],
            "cursors": [claim.cursor for _, claim, _ in written],
            "times": [naive(at) for _, _, at in written],
            "key_prefix": KEY_PREFIX,
            "disqualified_reasoning": DISQUALIFIED_REASONING,
        }
        found = [{"inserted": 0, "disqualified": 0} for _ in claims]
        for row in connection.execute(self.file("lead_scoring/recount_full.sql"), values):
            found[row.number][row.class_] = row.rows
        return found

    def recount(self, connection: Connection, claim: PageClaim) -> dict[str, int]:
        """Count the jobs and the scores that carry the page's own times."""
        values = {
            "lower": claim.lower,
            "cursor": claim.cursor,
            "times": [naive(each) for each in claim.times],
            "key_prefix": KEY_PREFIX,
            "disqualified_reasoning": DISQUALIFIED_REASONING,
        }
        row = connection.execute(self.file("lead_scoring/recount.sql"), values).one()
        return {"inserted": row.inserted, "disqualified": row.disqualified}

    def pending(self, connection: Connection, most: int, context: PageContext | None = None) -> int:
        """Count our RUNNING jobs, our jobs due no later than one drain after the next one, and due live jobs.

        A RUNNING job counts because it goes back into the queue if it fails, but not one that our own scorers hold.
        Reserved jobs don't count until they are due that soon.
        """
        due_at = context and _next_due_at(context)
        values = {
            "key_prefix": KEY_PREFIX,
            "holder_prefix": HOLDER_PREFIX,
            "most": most,
            "due_at": due_at and naive(due_at),
            "drain_seconds": self.drain.seconds or USUAL_DRAIN_SECONDS,
        }
        return int(connection.execute(self.file("lead_scoring/pending.sql"), values).scalar_one())

    def oldest_due_seconds(self, connection: Connection) -> float | None:
        """Return the wait of the first due job in the host's queue, of whatever kind."""
        seconds: float | None = connection.execute(self.file("lead_scoring/oldest_due.sql")).scalar()
        return seconds

    def backlog(self, connection: Connection) -> Backlog:
        """Return which of our jobs wait, and how long live jobs do."""
        values = {"key_prefix": KEY_PREFIX, "rows": _MOST_DUE}
        row = connection.execute(self.file("lead_scoring/backlog.sql"), values).one()
        return Backlog(row.next_due_seconds, row.is_running, row.live_wait_seconds)

    def outcome(self, connection: Connection, run: Run) -> Outcome:
        """Find out what has become of each lead that the run has enqueued."""
        values = {
            **self._enqueued(run),
            "seconds": LATELY_SECONDS,
            "bucket_seconds": bucket_seconds((run.seen_at - run.started_at).total_seconds()),
        }
        row = connection.execute(self.file("lead_scoring/outcome.sql"), values).one()
        places: Mapping[str, int] = row.places or {}
        jobs = {**dict.fromkeys(_STATUSES, 0), **(row.jobs or {})}
        elapsed = (row.seen_at - run.started_at).total_seconds()
        lately = min(LATELY_SECONDS, elapsed)
        ages = {int(age): number for age, number in (row.ends or {}).items()}
        done_by, waiting = _picked(places, self.done_by), _picked(places, _WAITING)
        return Outcome(
            known=row.known,
            jobs=jobs,
            unended=sum(waiting.values()),
            done=sum(done_by.values()),
            oldest_due_at=row.oldest_due_at,
            last_due_at=row.last_due_at,
            never_due=waiting["never_due"],
            per_minute=60 * row.ended / lately if lately >= ENOUGH_SECONDS else None,
            seen_at=row.seen_at,
            done_by=done_by,
            waiting=waiting,
            without=_picked(places, self.without_result),
            taken_over=places.get("taken_over", 0),
            ends=Ends.by_age(values["bucket_seconds"], elapsed, ages),
        )

    def results_over_time(self, connection: Connection, run: Run, *, until: datetime, buckets: int) -> Sequence[int]:
        """Count the leads by when their job ended with a score."""
        values = {
            **self._enqueued(run),
            "since_epoch": run.started_at.timestamp(),
            "until_epoch": until.timestamp(),
            "until": naive(until),
            "buckets": buckets,
        }
        found = [0] * buckets
        for row in connection.execute(self.file("lead_scoring/scored_over_time.sql"), values):
            found[row.bucket - 1] = row.leads
        return found

    def _enqueued(self, run: Run) -> dict[str, Any]:
        """Return the parameters of enqueued.sql."""
        return {
            "backfill": self.name,
            "run": run.id,
            "key_prefix": KEY_PREFIX,
            "rescore_all": self.with_defaults(run.parameters.options)["rescore_all"],
            "started_at": run.started_at,
        }

    def distribution(self, connection: Connection, run: Run) -> Distribution:
        """Return the overall scores of the run's leads, by workspace."""
        options = self.with_defaults(run.parameters.options)
        values = {
            "run": run.id,
            "key_prefix": KEY_PREFIX,
            "disqualifying": list(DISQUALIFYING),
            "disqualified_reasoning": DISQUALIFIED_REASONING,
            "started_at": run.started_at,
            "client_ids": _filters(options)["client_ids"],
            "rescore_all": options["rescore_all"],
        }
        rows = connection.execute(self.file("lead_scoring/distribution.sql"), values)
        return distribution.of(rows, read=run.counts.get("read", 0))

    def explain(self, connection: Connection, now: Now, passages: Sequence[Passage]) -> Explanation:
        """Explain a lead: its score, its job, and the class in which each run put it."""
        return explain(connection, self.schema, self.name, now, passages, disqualified_reasoning=DISQUALIFIED_REASONING)

    @property
    def queue(self) -> JobQueue:
        """The host's queue of jobs."""
        return JobQueue(self.schema, KEY_PREFIX, self.drain)

    def indicators(self, pace: Pace) -> Sequence[Indicator]:
        """Return the indicator of how long the host's own jobs wait."""
        return (LiveQueueAge(self.schema, KEY_PREFIX, pace.max_live_wait),)

    def fills_queue(self, options: Values) -> bool:
        """Return whether the run's jobs are the host's: reserved ones don't wait in its queue."""
        return not options["score_here"]

    def needs_ordinals(self, options: Values) -> bool:
        """Return whether each job has its own due time after the run's start, for which jobs are numbered."""
        return bool(options["delay_ms"])


def _next_due_at(context: PageContext) -> datetime | None:
    """Return when the run's next job comes due, as page.sql computes it; None: at once, or at the next drain."""
    delay_ms = context.options["delay_ms"]
    if delay_ms:
        return context.started_at + timedelta(milliseconds=(context.ordinal + 1) * delay_ms)
    if context.spacing_ms and context.due_at:
        return context.due_at + timedelta(milliseconds=context.spacing_ms)
    return None


def _picked(places: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """Return the number of leads in each of these places."""
    return {name: places.get(name, 0) for name in names}


def _reserve_seconds(options: Values) -> float:
    """Return how long a run's jobs are reserved for our own workers, in seconds; 0: they aren't."""
    return options["reserve_hours"] * 3600.0 if options["score_here"] else 0.0


def _filters(options: Values) -> dict[str, Any]:
    ids = options["client_ids"]
    return {"client_ids": None if ids is None else list(ids), "rescore_all": options["rescore_all"]}
