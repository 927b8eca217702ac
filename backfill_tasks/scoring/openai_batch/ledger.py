"""The ledger's record of submissions. Each function changes a row only from the state that it expects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

from backfill_tasks.scoring.contract import Usage

State = Literal["submitting", "submitted", "ended", "closed", "unmade", "lost"]


@dataclass(frozen=True)
class Place:
    """The slot of a session that a submission belongs to: only its turns handle it."""

    session: str
    slot: int


@dataclass(frozen=True)
class Submission:
    """A submission as the ledger has it.

    Attributes:
        id: our id, which the provider's batch has in its metadata.
        account: a name of the account that it was made with.
        state: submitting: recorded, and perhaps made; submitted: the provider has it; ended: results can be collected;
            closed: they were; unmade: it was never made; lost: the provider doesn't know it any more.
        verdict: how the provider ended it: completed, expired, cancelled or failed.
        bound: the most tokens that all its requests can use.
        ambiguous: how many requests may have been paid for without a result.
        bounds: the jobs whose conversations it has, each with what was reserved for it, in millionths.
        estimates: the input tokens of each by estimate.
        seconds: since it was recorded.
        unwanted: whether it is to be cancelled.
        written: whether its results are written, so that only its files are left to delete.
    """

    id: str
    account: str
    state: State
    file_id: str | None
    provider_id: str | None
    output_ids: tuple[str, ...]
    verdict: str | None
    bound: Usage
    ambiguous: int
    bounds: Mapping[str, int]
    estimates: Mapping[str, int]
    seconds: float
    unwanted: bool
    written: bool

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs whose conversations it has."""
        return tuple(self.bounds)


_COLUMNS = """
  id, account, state, file_id, provider_id, output_ids, verdict, input_tokens, output_tokens, ambiguous, unwanted,
  written,
  extract(epoch FROM now() - created_at)::float8 AS seconds,
  (SELECT array_agg(job ORDER BY job) FROM backfill.batch_request WHERE batch_id = batch.id) AS jobs,
  (SELECT array_agg(bound ORDER BY job) FROM backfill.batch_request WHERE batch_id = batch.id) AS bounds,
  (SELECT array_agg(estimated_tokens ORDER BY job) FROM backfill.batch_request WHERE batch_id = batch.id) AS estimates
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


def record(connection: Connection, id_: str, place: Place, account: str, model: str, jobs: Sequence[str]) -> list[str]:
    """Record a submission before it is made, and return the jobs that it may have: those in no other open one."""
    connection.execute(
        text(
            "INSERT INTO backfill.batch (id, session_id, slot, account, model, requests, input_tokens, output_tokens)"
            " VALUES (:id, :session, :slot, :account, :model, 0, 0, 0)"
        ),
        {"id": id_, "session": place.session, "slot": place.slot, "account": account, "model": model},
    )
    return list(connection.execute(_ADD_JOBS, {"id": id_, "jobs": list(jobs)}).scalars())


def bound(
    connection: Connection, id_: str, costs: Mapping[str, int], estimates: Mapping[str, int], most: Usage
) -> None:
    """Record which of its jobs a submission has, and the most tokens that they can use.

    `costs`: what is reserved for each of them; `estimates`: its input tokens by estimate.
    """
    connection.execute(
        text(
            "UPDATE backfill.batch SET requests = :requests, input_tokens = :given, output_tokens = :made"
            " WHERE id = :id"
        ),
        {"id": id_, "requests": len(costs), "given": most.input_tokens, "made": most.output_tokens},
    )
    connection.execute(
        text("DELETE FROM backfill.batch_request WHERE batch_id = :id AND NOT job = ANY (:jobs)"),
        {"id": id_, "jobs": list(costs)},
    )
    connection.execute(
        text(
            "UPDATE backfill.batch_request AS request SET bound = each.cost, estimated_tokens = each.estimate"
            " FROM unnest(CAST(:jobs AS text[]), CAST(:costs AS bigint[]), CAST(:estimates AS integer[]))"
            " AS each (job, cost, estimate) WHERE request.batch_id = :id AND request.job = each.job"
        ),
        {
            "id": id_,
            "jobs": list(costs),
            "costs": list(costs.values()),
            "estimates": [estimates[job] for job in costs],
        },
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
        lost = "state = 'lost', ambiguous = requests"
        changed = _changed(connection, id_, "submitted", lost) or _changed(connection, id_, "submitting", lost)
    return changed and _let_go(connection, id_)


def written(connection: Connection, id_: str, ambiguous: int = 0) -> bool:
    """Record that a submission's results are written, and let go of its jobs; False: that was recorded before.

    `ambiguous`: how many of its requests may have been paid for without a result.
    """
    change = "written = true, ambiguous = :ambiguous"
    changed = _changed(connection, id_, "ended", change, also="AND NOT written", ambiguous=ambiguous)
    return changed and _let_go(connection, id_)


def close(connection: Connection, id_: str) -> bool:
    """Close a submission whose results are written and whose files are deleted."""
    return _changed(connection, id_, "ended", "state = 'closed'", also="AND written")


def read(connection: Connection, id_: str) -> Submission:
    """Return a submission."""
    row = connection.execute(text(f"SELECT {_COLUMNS} FROM backfill.batch WHERE id = :id"), {"id": id_}).one()  # noqa: S608
    return _submission(row)


def in_state(connection: Connection, place: Place, state: State) -> list[Submission]:
    """Return a slot's submissions in an open state, oldest first."""
    query = (
        f"SELECT {_COLUMNS} FROM backfill.batch WHERE session_id = :session AND slot = :slot AND state = :state"  # noqa: S608  no input
        " AND state IN ('submitting', 'submitted', 'ended') ORDER BY created_at, id"
    )
    rows = connection.execute(text(query), {"session": place.session, "slot": place.slot, "state": state})
    return [_submission(row) for row in rows]


def _changed(connection: Connection, id_: str, state: State, change: str, *, also: str = "", **values: Any) -> bool:
    query = f"UPDATE backfill.batch SET {change}, changed_at = now() WHERE id = :id AND state = :expected {also}"  # noqa: S608
    done = connection.execute(text(query), {"id": id_, "expected": state, **values})
    return bool(done.rowcount)


def _let_go(connection: Connection, id_: str) -> bool:
    connection.execute(text("UPDATE backfill.batch_request SET is_open = false WHERE batch_id = :id"), {"id": id_})
    return True


def _submission(row: Row[Any]) -> Submission:
    return Submission(
        id=row.id,
        account=row.account,
        state=row.state,
        file_id=row.file_id,
        provider_id=row.provider_id,
        output_ids=tuple(row.output_ids),
        verdict=row.verdict,
        bound=Usage(row.input_tokens, row.output_tokens),
        ambiguous=row.ambiguous,
        bounds=dict(zip(row.jobs or (), row.bounds or (), strict=True)),
        estimates=dict(zip(row.jobs or (), row.estimates or (), strict=True)),
        seconds=row.seconds,
        unwanted=row.unwanted,
        written=row.written,
    )
