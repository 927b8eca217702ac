"""The host's job queue: when and how fast it is drained, and an indicator of how long live jobs wait in it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from sqlalchemy import Connection

from backfill_tasks.backfills.host import sql
from backfill_tasks.engine.admission.bound import MOST, Measurement
from backfill_tasks.engine.admission.indicators import Indicator, Query, Reading, Row
from backfill_tasks.engine.admission.rhythm import Rhythm
from backfill_tasks.engine.contract import Queue
from backfill_tasks.scoring.jobs import HOLDER_PREFIX

#: How many due jobs are read to find a live one: a millisecond or two by index, and 50 times what the host's runner
#: takes at a time.
_ROWS = 1_000

#: How often the host drains its queue if no setting says so: its cron job runs once a minute.
USUAL_DRAIN_SECONDS = 60.0

#: How far back starts of jobs are read, in multiples of the usual drain, and how many show the drain's rhythm.
_PERIODS, _WAITS = 30, 200
#: How much earlier than expected a call may come, because the host's clock or its cron differs from ours; as a share of
#: the drain. One second of a minute. A job that came due within that time may have missed the call.
_MARGIN = 1 / 60


@dataclass(frozen=True)
class Drain:
    """When the host takes due jobs out of its queue, oldest first: every `seconds`, at whole multiples of them.

    Our jobs come due `lead_seconds` earlier, so that any live job that has arrived by then goes first. With 0 seconds,
    the interval is unknown, and our jobs come due at once.
    """

    seconds: float = 0.0
    lead_seconds: float = 0.0


@dataclass(frozen=True)
class JobQueue(Queue):
    """The host's job queue."""

    schema: str
    key_prefix: str
    drain: Drain

    @property
    def usual(self) -> Rhythm:
        """The drain of the settings; without one, the host's usual one, at no known moments."""
        if self.drain.seconds:
            return Rhythm(self.drain.seconds, 0.0)
        return Rhythm(USUAL_DRAIN_SECONDS, None)

    @property
    def lead_seconds(self) -> float:
        """How long before the drain our jobs come due."""
        return self.drain.lead_seconds

    def measure(self, connection: Connection, *, since: float, until: float) -> Measurement:
        """Measure the queue by the index on status and runAt, which serves the newest ended jobs, too."""
        usual = self.usual.seconds
        values = {
            "key_prefix": self.key_prefix,
            "holder_prefix": HOLDER_PREFIX,
            "since": _naive(since),
            "until": _naive(until),
            "margin_seconds": _MARGIN * usual,
            "rows": MOST,
            "recent_seconds": _PERIODS * usual,
            "waits": _WAITS,
        }
        row = connection.execute(sql.file(self.schema, "lead_scoring/drain.sql"), values).one()
        waits = tuple(zip(row.due or (), row.started or (), strict=True))
        every = row.every_seconds if row.every_seconds and row.every_seconds < usual else None
        counts = row.live, row.ours, row.taken, row.taken_ours, row.left
        return Measurement(row.at, since, *counts, waits, row.here, every)

    def set_back(self, connection: Connection, *, jobs: int, until: float, due: float) -> None:
        """Set back our newest jobs; a job that the host locks meanwhile is passed over."""
        values = {"key_prefix": self.key_prefix, "jobs": jobs, "until": _naive(until), "due": _naive(due), "rows": MOST}
        connection.execute(sql.file(self.schema, "lead_scoring/set_back.sql"), values)


def _naive(moment: float) -> datetime:
    """Convert a Unix time to the form of the host's TIMESTAMP(3) columns: UTC, without a zone."""
    return datetime.fromtimestamp(moment, UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class LiveQueueAge(Indicator):
    """How long the oldest due job that isn't ours has waited. `most` is in seconds; 0: not asked.

    It fails closed: without it, our jobs could pile up ahead of the host's own, and no page would notice.
    """

    schema: str
    key_prefix: str
    most: float
    name: ClassVar[str] = "live queue"
    fails_closed: ClassVar[bool] = True

    @property
    def threshold(self) -> str:
        """The threshold in seconds."""
        return f"{self.most:g} s" if self.most else "off"

    @property
    def query(self) -> Query:
        """The query for the first due jobs."""
        text = sql.file(self.schema, "lead_scoring/live_wait.sql")
        return Query(text, (("key_prefix", self.key_prefix), ("rows", _ROWS)))

    def judge(self, row: Row) -> Reading:
        """Judge the wait. If our own due jobs hide any live one, the last of them stands for it."""
        most = self.most or float("inf")
        if row["behind_ours"] is not None:
            shown = f"{row['behind_ours']:,.0f} s"
            reason = f"{_ROWS:,} of our own jobs have been due for over {self.threshold}: the queue must catch up first"
            return self.compare(row["behind_ours"], most, shown, reason)
        if row["waited"] is None:
            return self.compare(0, most, "none waits", "")
        shown = f"{row['waited']:,.0f} s"
        return self.compare(row["waited"], most, shown, f"a live job has waited for {shown}, over {self.threshold}")

    @property
    def diagnosis(self) -> Query:
        """The query for the rights on the table, who has locked it, and the index that the measurement needs."""
        text = sql.file(self.schema, "lead_scoring/live_wait_diagnosis.sql")
        return Query(text, (("name", self._table),))

    def unmeasured(self, why: str, diagnosis: Row | None) -> Reading:
        """Return a reading that says how to make it measurable again, and how to continue without it."""
        fix = self._fix(diagnosis)
        without = ". To continue without it: backfill tune RUN --max-live-wait 0" if self.most else ""
        return super().unmeasured(f"the live queue can't be measured: {why}. {fix[0].upper()}{fix[1:]}{without}", None)

    @property
    def _table(self) -> str:
        return f'{sql.quoted(self.schema)}."BackgroundJob"'

    def _fix(self, found: Row | None) -> str:
        if found is None or found["readable"] is None:
            return "`backfill doctor` says what is missing"
        if not found["readable"]:
            return f"have a DBA run GRANT SELECT ON {self._table} TO {found['role']}"
        if found["hidden"]:
            return f"have a DBA run ALTER ROLE {found['role']} BYPASSRLS"
        if found["locked_by"] is not None:
            return f"the session with process id {found['locked_by']} has locked {self._table}: wait for it, or end it"
        if found["index"] is None:
            return f'have a DBA run CREATE INDEX CONCURRENTLY ON {self._table} (status, "runAt")'
        return f"have a DBA run REINDEX INDEX CONCURRENTLY {found['index']}"
