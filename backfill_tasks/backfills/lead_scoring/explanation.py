"""One lead, explained: its state, its job, what the runs did with it, and the verdict."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from backfill_tasks.backfills.lead_scoring.fates import fates
from backfill_tasks.backfills.lead_scoring.state import Job, State, read
from backfill_tasks.backfills.lead_scoring.verdict import setter, verdict
from backfill_tasks.engine.explanation import Explanation, Now, Passage
from backfill_tasks.engine.verdicts import moment
from backfill_tasks.escaping import one_line

#: What a run with default options does with a lead.
_WOULD = {
    "inserted": "a run would create its job",
    "requeued": "a run would set its job to PENDING again",
    "refreshed": "a run would update its waiting job",
    "in_flight": "a run would leave its job alone",
    "disqualified": "a run would score it 1",
    "already_scored": "a run passes it over: it has a score",
    "no_inbound": "a run passes it over: no inbound message",
}

_MOST_SHOWN = 60


def explain(
    connection: Connection,
    schema: str,
    backfill: str,
    now: Now,
    passages: Sequence[Passage],
    *,
    disqualified_reasoning: str,
) -> Explanation:
    """Explain a lead."""
    has_ledger = bool(passages)
    state = read(connection, schema, now.item, disqualified_reasoning=disqualified_reasoning, has_ledger=has_ledger)
    found = fates(state, passages)
    return Explanation(
        verdict(backfill, state, passages, found),
        found,
        tuple(_lines(state, now, passages)),
        _facts(state, passages),
    )


def _lines(state: State, now: Now, passages: Sequence[Passage]) -> Iterator[tuple[str, str]]:
    if state.exists:
        tag = f"tag {state.tag}, which disqualifies" if state.tag else "no disqualifying tag"
        wrote = f"first wrote {moment(state.first_inbound_at)}" if state.first_inbound_at else "no inbound message"
        yield "lead", f"workspace {one_line(state.client or '', most=_MOST_SHOWN)} · {tag} · {wrote}"
        yield "score", _score(state, passages)
        if now.would is not None:
            yield "now", _WOULD.get(now.would, now.would)
    else:
        yield "lead", "not in the database"
    yield from _job_lines(state)


def _score(state: State, passages: Sequence[Passage]) -> str:
    if state.score is None:
        return "none"
    at = f" · {moment(state.scored_at)}" if state.scored_at else ""
    page = state.page_of_score(passages)
    return f"{state.score}{at} · by {f'run {page.run}, disqualified' if page else setter(state)}"


def _job_lines(state: State) -> Iterator[tuple[str, str]]:
    job = state.job
    if job is None:
        yield "job", "none"
        return
    foreign = "" if job.client == state.client else f" · of workspace {one_line(job.client, most=_MOST_SHOWN)}"
    attempts = f"attempt{'s' * (job.max_attempts != 1)} {job.attempts} of {job.max_attempts}"
    yield "job", f"{one_line(job.status, most=_MOST_SHOWN)} · {attempts} · due {moment(job.run_at)}{foreign}"
    if job.ahead is not None:
        yield "queue", f"{job.ahead:,} PENDING jobs come due before it"
    if job.locked_by is not None:
        since = f" since {moment(job.locked_at)}" if job.locked_at else ""
        yield "held by", f"{one_line(job.locked_by, most=_MOST_SHOWN)}{since}"
    if job.last_error is not None:
        yield "last error", job.safe_error or ""
    if state.here.submission is not None:
        yield "batch", f"{state.here.submission[0]} · {state.here.submission[1]}"


def _facts(state: State, passages: Sequence[Passage]) -> dict[str, Any]:
    page = state.page_of_score(passages)
    by = None if state.score is None else (f"run {page.run}" if page else setter(state))
    return {
        "lead": {
            "client_id": state.client,
            "disqualifying_tag": state.tag,
            "score": state.score,
            "scored_at": _iso(state.scored_at),
            "scored_by": by,
            "created_at": _iso(state.created_at),
            "first_inbound_at": _iso(state.first_inbound_at),
        }
        if state.exists
        else None,
        "job": state.job and _job_facts(state, state.job),
        "scoring_session": state.here.session,
    }


def _job_facts(state: State, job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "type": job.type,
        "status": job.status,
        "client_id": job.client,
        "run_at": _iso(job.run_at),
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "locked_by": job.locked_by,
        "locked_at": _iso(job.locked_at),
        "finished_at": _iso(job.finished_at),
        "last_error": job.safe_error,
        "ahead": job.ahead,
        "submission": state.here.submission and state.here.submission[0],
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
