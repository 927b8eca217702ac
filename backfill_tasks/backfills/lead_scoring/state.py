"""One lead, its job and its score, as the tables have them now."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from backfill_tasks.backfills.host import sql
from backfill_tasks.backfills.host.leads import naive
from backfill_tasks.engine.explanation import Passage
from backfill_tasks.escaping import one_line
from backfill_tasks.scoring.claims import OUR_ERROR
from backfill_tasks.scoring.jobs import DISQUALIFYING, HOLDER_PREFIX, KEY_PREFIX

#: How many jobs of the queue are counted before one.
MOST_AHEAD = 1_000

#: The texts of the host's runner that repeat nothing of a conversation.
_HOSTS_WORDS = ("Released stale RUNNING lock",)

#: The host's columns have milliseconds, the ledger's microseconds.
_ROUNDING = timedelta(microseconds=500)
_MILLISECOND = timedelta(milliseconds=1)

#: Where state.sql moves earlier times.
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)

_MOST_SHOWN = 200


@dataclass(frozen=True)
class Job:
    """A lead's job of ours. `ahead`: how many jobs come before it in the host's queue; None: it doesn't wait there."""

    id: str
    type: str
    status: str
    client: str
    run_at: datetime
    attempts: int
    max_attempts: int
    locked_at: datetime | None
    locked_by: str | None
    started_at: datetime | None
    finished_at: datetime | None
    created_at: datetime
    last_error: str | None
    ahead: int | None

    @property
    def safe_error(self) -> str | None:
        """The last error, unless the host wrote it: its texts may repeat parts of a conversation."""
        text = self.last_error
        if text is None or text.startswith(OUR_ERROR) or text in _HOSTS_WORDS:
            return text and one_line(text.removeprefix(OUR_ERROR), most=_MOST_SHOWN)
        code = re.search(r"(?<!\d)[45]\d\d(?!\d)", text)
        status = f" with the number {code[0]}" if code else ""
        return f"a text of the host's{status}, not repeated here because it may hold personal data"

    @property
    def is_held_here(self) -> bool:
        """Whether a batch of `backfill work` holds it."""
        return (self.locked_by or "").startswith(HOLDER_PREFIX)


@dataclass(frozen=True)
class Here:
    """What scoring here has to do with a lead.

    `session`: the one that is running; `submission`: the provider's open batch that has the job, and its state;
    `scored_in`: the session in whose time the lead got its score.
    """

    session: str | None = None
    submission: tuple[str, str] | None = None
    scored_in: str | None = None


@dataclass(frozen=True)
class State:
    """A lead as the tables have it at `seen_at`.

    Attributes:
        exists: whether it is there.
        client: its workspace.
        tag: its tag, if that disqualifies it.
        score: its overall score.
        scored_at: when it got the score.
        scored_by_page: whether its reasoning is the one that a page, or the old script, gives disqualified leads.
        created_at: when it was created.
        first_inbound_at: when the first of its inbound messages was created; None: it has none.
        job: its job of ours.
        here: what scoring here has to do with it.
    """

    seen_at: datetime
    exists: bool
    client: str | None
    tag: str | None
    score: int | None
    scored_at: datetime | None
    scored_by_page: bool
    created_at: datetime | None
    first_inbound_at: datetime | None
    job: Job | None
    here: Here

    def page_of_score(self, passages: Sequence[Passage]) -> Passage | None:
        """Return the passage whose page gave the lead its score, as a disqualified one."""
        if self.score is None or self.scored_at is None or not self.scored_by_page:
            return None
        return next((each for each in passages if each.page and is_among(self.scored_at, each.page.times)), None)


def read(connection: Connection, schema: str, item: str, *, disqualified_reasoning: str, has_ledger: bool) -> State:
    """Read a lead and everything about it: three statements."""
    values = {
        "item": item,
        "disqualifying": list(DISQUALIFYING),
        "key_prefix": KEY_PREFIX,
        "disqualified_reasoning": disqualified_reasoning,
    }
    row = connection.execute(sql.file(schema, "lead_scoring/state.sql"), values).one()
    job = None
    if row.job is not None:
        job = Job(
            id=row.job,
            type=row.job_type,
            status=row.job_status,
            client=row.job_client,
            run_at=row.run_at,
            attempts=row.attempts,
            max_attempts=row.max_attempts,
            locked_at=row.locked_at,
            locked_by=row.locked_by,
            started_at=row.job_started_at,
            finished_at=row.finished_at,
            created_at=row.job_created_at,
            last_error=row.last_error,
            ahead=_ahead(connection, schema, row.run_at) if row.job_status == "PENDING" else None,
        )
    return State(
        seen_at=row.seen_at,
        exists=row.exists,
        client=row.client,
        tag=row.tag,
        score=row.score,
        scored_at=row.scored_at,
        scored_by_page=row.scored_by_page,
        created_at=row.created_at,
        first_inbound_at=row.first_inbound_at,
        job=job,
        here=_here(connection, schema, job, row.scored_at) if has_ledger else Here(),
    )


def _ahead(connection: Connection, schema: str, run_at: datetime) -> int:
    values = {"run_at": naive(run_at), "most": MOST_AHEAD}
    return int(connection.execute(sql.file(schema, "lead_scoring/queue_place.sql"), values).scalar_one())


def _here(connection: Connection, schema: str, job: Job | None, scored_at: datetime | None) -> Here:
    values = {"job": job and job.id, "scored_at": scored_at}
    row = connection.execute(sql.file(schema, "lead_scoring/scoring.sql"), values).one()
    submission = None if row.submission is None else (row.submission, row.submission_state)
    return Here(row.session, submission, row.scored_in)


def is_among(at: datetime, times: Sequence[datetime]) -> bool:
    """Return whether a time of the host's is one of the ledger's."""
    return any(abs(at - each) <= _ROUNDING for each in times)


def is_before(at: datetime | None, moment: datetime) -> bool:
    """Return whether a time of the host's is before a moment of the ledger's, whatever was rounded.

    A time before 1970 is an error, and is before nothing.
    """
    return at is not None and _FIRST < at < moment - _MILLISECOND


def is_after(at: datetime | None, moment: datetime) -> bool:
    """Return whether a time of the host's is after a moment of the ledger's, whatever was rounded."""
    return at is not None and at > moment + _MILLISECOND
