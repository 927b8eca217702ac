"""Claims on the host's jobs: claim, renew, finish, release. Each function is one statement.

They follow the protocol of the host's own runner, so both can share one table: a claim is a conditional UPDATE, its
holder renews "lockedAt", and only the holder ends the job. Only jobs with the backfill's own dedupeKey are touched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from backfill_tasks.engine.database import statement
from backfill_tasks.escaping import one_line
from backfill_tasks.scoring.contract import REASONING_CHARACTERS, Score
from backfill_tasks.scoring.jobs import HOLDER_PREFIX, KEY_PREFIX
from backfill_tasks.scoring.statements import LOCK_MS, file, prepare
from backfill_tasks.scoring.written import Written

#: How many of our claimable jobs are read to share a batch out between workspaces: a few milliseconds by index.
_POOL = 2_000

#: The longest backoff after a failed attempt, in seconds: the host's.
LONGEST_WAIT = 900.0

#: How often a batch renews its locks, and when a lock of ours counts as abandoned, in seconds: after three missed
#: renewals, and before the host releases it (60 s at the earliest).
RENEW_SECONDS = 15.0
ABANDONED_SECONDS = 45.0

#: After how many seconds the host releases a lock of its own runner, by default.
_HOSTS_SECONDS = 600.0

#: What the lastError of an attempt that failed here begins with, and the most characters that follow.
OUR_ERROR = "backfill: "
_MOST_ERROR = 500

_ABANDONED = f"{OUR_ERROR}released, because its worker stopped renewing the lock"

#: For how many seconds a lease keeps the jobs of a submission from the host: the provider's 24 hours, and 6 more for an
#: operator to bring workers back. Leases end one after another, at the pace that an older host can take.
LEASE_SECONDS = 30 * 3_600.0
_LEASE_SPACING = 6.0

Kind = Literal["scored", "unchanged", "failed", "back"]


@dataclass(frozen=True)
class Job:
    """A claimed job."""

    id: str
    lead: str
    client: str


@dataclass(frozen=True)
class Result:
    """How one claimed job ends.

    Attributes:
        job: its id.
        kind: `scored`: the lead gets `score`; `unchanged`: the job succeeds and changes nothing; `failed`: the attempt
            failed; `back`: the job wasn't tried, and its attempt doesn't count.
        score: the lead's score.
        error: why the attempt failed, without personal data.
        wait: the least wait before the next attempt, in seconds, if a server asked for one.
    """

    job: str
    kind: Kind
    score: Score | None = None
    error: str | None = None
    wait: float | None = None


@dataclass(frozen=True)
class Claims:
    """The jobs of one batch. `holder` is unique: it is what lockedBy says. `lock_ms`: the longest wait for a row."""

    schema: str
    holder: str
    lock_ms: int = LOCK_MS

    def claim(self, connection: Connection, most: int) -> list[Job]:
        """Claim up to this many jobs, fair between workspaces; due jobs first, and reserved ones at once."""
        prepare(connection, self.lock_ms)
        values = {
            "key_prefix": KEY_PREFIX,
            "holder": self.holder,
            "our_error": OUR_ERROR,
            "longest_wait": LONGEST_WAIT,
            "most": most,
            "pool": max(_POOL, 8 * most),
        }
        rows = connection.execute(file("claim", self.schema), values)
        return [Job(row.id, row.lead, row.client) for row in rows]

    def renew(self, connection: Connection, jobs: Iterable[str]) -> set[str]:
        """Renew the locks of these jobs, and return those that are still held."""
        prepare(connection, self.lock_ms)
        values = {"jobs": list(jobs), "holder": self.holder}
        return set(connection.execute(file("keep", self.schema), values).scalars())

    def lease(self, connection: Connection, jobs: Sequence[str], submission: str) -> set[str]:
        """Pass held jobs on to a submission, whose lease no heartbeat needs to renew, and return those still held.

        The jobs stay RUNNING, so nobody can claim them. Their "lockedAt" is dated ahead: if all our workers are gone
        for so long, the host releases them by its own rule, one after another.
        """
        prepare(connection, self.lock_ms)
        values = {
            "jobs": list(jobs),
            "holder": self.holder,
            "submission": submission,
            "new_holder": submission_holder(submission),
            "seconds": LEASE_SECONDS,
            "spacing": _LEASE_SPACING,
        }
        return set(connection.execute(file("lease", self.schema), values).scalars())

    def finish(self, connection: Connection, results: Sequence[Result]) -> Written:
        """End these jobs and score their leads, except for jobs that aren't held any more."""
        prepare(connection, self.lock_ms)
        scores = [result.score for result in results]
        values = {
            "holder": self.holder,
            "longest_wait": LONGEST_WAIT,
            "jobs": [result.job for result in results],
            "kinds": [result.kind for result in results],
            "fits": [score and score.fit for score in scores],
            "intents": [score and score.intent for score in scores],
            "overalls": [score and score.overall for score in scores],
            "reasonings": [score and storable(score.reasoning) for score in scores],
            "errors": [result.error and f"{OUR_ERROR}{one_line(result.error, most=_MOST_ERROR)}" for result in results],
            "waits": [result.wait for result in results],
        }
        row = connection.execute(file("finish", self.schema), values).one()
        return Written(row.scored, row.unchanged, row.retried, row.failed, row.given_back, row.lost)


def submission_holder(submission: str) -> str:
    """Return what lockedBy says of the jobs of a submission to a provider."""
    return f"{HOLDER_PREFIX}{submission}"


def release(connection: Connection, schema: str) -> list[str]:
    """Release our jobs whose holder is gone, and return their ids. A job without attempts left fails."""
    prepare(connection)
    values = {
        "key_prefix": KEY_PREFIX,
        "holder_prefix": HOLDER_PREFIX,
        "ours_seconds": ABANDONED_SECONDS,
        "theirs_seconds": _HOSTS_SECONDS,
        "error": _ABANDONED,
        "pool": _POOL,
    }
    return list(connection.execute(file("release", schema), values).scalars())


def forget(connection: Connection) -> None:
    """Remove the times of claims that are older than the drain is measured back."""
    connection.execute(
        statement("DELETE FROM backfill.claim WHERE started_at < now() AT TIME ZONE 'UTC' - interval '1 day'")
    )


def any_left(connection: Connection, schema: str) -> bool:
    """Return whether a job of ours has not ended, or a run may still enqueue one."""
    prepare(connection)
    return bool(connection.execute(file("left", schema), {"key_prefix": KEY_PREFIX}).scalar_one())


def storable(reasoning: str) -> str:
    """Return a scorer's reasoning as the host stores it: cut, and without characters that no database takes."""
    cleaned = reasoning.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    return cleaned[:REASONING_CHARACTERS]
