"""The demo's host: a sample database, and the check of what became of it."""

from dataclasses import dataclass
from pathlib import Path

import psycopg

from sandbox.host.sample import Sample, create_schema, fill

# An earlier backfill and its runner stopped an hour ago: its RUNNING jobs are abandoned, and the others are due.
_AN_HOUR_AGO = """
UPDATE "BackgroundJob" SET "runAt" = "runAt" - interval '1 hour', "lockedAt" = "lockedAt" - interval '1 hour'
WHERE status IN ('PENDING', 'RUNNING') AND starts_with("dedupeKey", 'lead_scoring_backfill:')
"""


@dataclass(frozen=True)
class Result:
    """What became of the leads and of the backfill's jobs.

    Attributes:
        eligible: the leads that had to be scored, and `disqualified` of them have a disqualifying tag.
        scored: the eligible leads with a score; `scored_1` of the disqualified ones have a score of 1.
        changed: the other leads whose row has changed.
        open_jobs: the backfill's jobs that have not ended.
    """

    eligible: int
    scored: int
    disqualified: int
    scored_1: int
    changed: int
    open_jobs: int

    @property
    def faults(self) -> list[str]:
        """What isn't as it should be, in words; empty if the job is done."""
        found = {
            "eligible leads have no score": self.eligible - self.scored,
            "disqualified leads have a score other than 1": self.disqualified - self.scored_1,
            "leads were changed that should not have been": self.changed,
            "jobs of the backfill have not ended": self.open_jobs,
        }
        return [f"{number:,} {what}" for what, number in found.items() if number]


def prepare(database_url: str, leads: int) -> Sample:
    """Create and fill the host's tables, and record every lead for the check at the end."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        create_schema(connection)
        sample = fill(connection, leads)
        connection.execute(_AN_HOUR_AGO)
        connection.execute(_script("before"))
    return sample


def check(database_url: str) -> Result:
    """Return what became of the leads and jobs."""
    with psycopg.connect(database_url) as connection:
        (row,) = connection.execute(_script("after")).fetchall()
    return Result(*row)


def _script(name: str) -> bytes:
    return Path(__file__).with_name(f"{name}.sql").read_bytes()
