"""The ledger's record of submissions. Each function changes a row only from the state that it expects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

from backfill_tasks.scoring.contract import Usage

State = Literal["submitting", "submitted", "ended", "closed", "unmade", "lost"]


@dataclass(frozen=True)
class Submission:
    """A submission as the ledger has it.

    Attributes:
        id: our id, which the provider's batch has in its metadata.
        state: submitting: recorded, and perhaps made; submitted: the provider has it; ended: results can be collected;
            closed: they were; unmade: it was never made; lost: the provider doesn't know it any more.
        verdict: how the provider ended it: completed, expired, cancelled or failed.
        bound: the most tokens that all its requests can use.
        ambiguous: how many requests may have been paid for without a result.
        jobs: the jobs whose conversations it has.
    """

    id: str
    state: State
    file_id: str | None
    provider_id: str | None
    output_ids: tuple[str, ...]
    verdict: str | None
    bound: Usage
    ambiguous: int
    jobs: tuple[str, ...]


_COLUMNS = """
  id, state, file_id, provider_id, output_ids, verdict, input_tokens, output_tokens, ambiguous,
  (SELECT array_agg(job ORDER BY job) FROM backfill.batch_request WHERE batch_id = batch.id) AS jobs
"""

#: Records the jobs first: one that is in another open submission, even of a transaction that isn't committed, is left
#: out. The row of the submission exists already.
_ADD_JOBS = text(
    """
    INSERT INTO backfill.batch_request (batch_id, job)
    SELECT :id, job FROM unnest(CAST(:jobs AS text[])) AS job ORDER BY job
    ON CONFLICT DO NOTHING
    RETURNING job
    """
)


def record(connection: Connection, id_: str, account: str, model: str, jobs: Sequence[str]) -> list[str]:
    """Record a submission before it is made, and return the jobs that it may have: those in no other open one."""
    connection.execute(
        text(
            "INSERT INTO backfill.batch (id, account, model, requests, input_tokens, output_tokens)"
            " VALUES (:id, :account, :model, 0, 0, 0)"
        ),
        {"id": id_, "account": account, "model": model},
    )
    return list(connection.execute(_ADD_JOBS, {"id": id_, "jobs": list(jobs)}).scalars())


def bound(connection: Connection, id_: str, requests: int, most: Usage) -> None:
    """Record how many requests a submission has, and the most tokens that they can use."""
    connection.execute(
        text(
            "UPDATE backfill.batch SET requests = :requests, input_tokens = :given, output_tokens = :made"
            " WHERE id = :id"
        ),
        {"id": id_, "requests": requests, "given": most.input_tokens, "made": most.output_tokens},
    )


def uploaded(connection: Connection, id_: str, file_id: str) -> bool:
    """Record the file of a submission that is being made; False: it was given up meanwhile."""
    return _changed(connection, id_, "submitting", "file_id = :file", file=file_id)


def submitted(connection: Connection, id_: str, provider_id: str) -> bool:
    """Record the provider's batch; False: the submission isn't being made."""
    return _changed(connection, id_, "submitting", "state = 'submitted', provider_id = :provider", provider=provider_id)


def ended(connection: Connection, id_: str, verdict: str, output_ids: Sequence[str]) -> bool:
    """Record that the provider has ended a batch."""
    change = "state = 'ended', verdict = :verdict, output_ids = :ids"
    return _changed(connection, id_, "submitted", change, verdict=verdict, ids=list(output_ids))


def give_up(connection: Connection, id_: str, state: Literal["unmade", "lost"]) -> bool:
    """Give up a submission: its jobs may be submitted again. The requests of a lost one count as ambiguous."""
    if state == "unmade":
        changed = _changed(connection, id_, "submitting", "state = 'unmade'")
    else:
        changed = _changed(connection, id_, "submitted", "state = 'lost', ambiguous = requests")
    return changed and _let_go(connection, id_)


def close(connection: Connection, id_: str) -> bool:
    """Close a submission whose results are written."""
    return _changed(connection, id_, "ended", "state = 'closed'") and _let_go(connection, id_)


def read(connection: Connection, id_: str) -> Submission:
    """Return a submission."""
    row = connection.execute(text(f"SELECT {_COLUMNS} FROM backfill.batch WHERE id = :id"), {"id": id_}).one()  # noqa: S608
    return _submission(row)


def in_state(connection: Connection, account: str, state: State, *, quiet_seconds: float = 0.0) -> list[Submission]:
    """Return an account's submissions in an open state that haven't changed for some seconds, oldest first."""
    query = (
        f"SELECT {_COLUMNS} FROM backfill.batch WHERE account = :account AND state = :state"  # noqa: S608  no input
        " AND state IN ('submitting', 'submitted', 'ended') AND changed_at <= now() - :quiet * interval '1 second'"
        " ORDER BY created_at, id"
    )
    rows = connection.execute(text(query), {"account": account, "state": state, "quiet": quiet_seconds})
    return [_submission(row) for row in rows]


def _changed(connection: Connection, id_: str, state: State, change: str, **values: Any) -> bool:
    query = f"UPDATE backfill.batch SET {change}, changed_at = now() WHERE id = :id AND state = :expected"  # noqa: S608
    done = connection.execute(text(query), {"id": id_, "expected": state, **values})
    return bool(done.rowcount)


def _let_go(connection: Connection, id_: str) -> bool:
    connection.execute(text("UPDATE backfill.batch_request SET is_open = false WHERE batch_id = :id"), {"id": id_})
    return True


def _submission(row: Row[Any]) -> Submission:
    return Submission(
        id=row.id,
        state=row.state,
        file_id=row.file_id,
        provider_id=row.provider_id,
        output_ids=tuple(row.output_ids),
        verdict=row.verdict,
        bound=Usage(row.input_tokens, row.output_tokens),
        ambiguous=row.ambiguous,
        jobs=tuple(row.jobs or ()),
    )
