"""A scoring session, as `backfill work` shows it."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from backfill_tasks.cli.render.text import counted, duration, share, table, wrapped
from backfill_tasks.cli.render.work_steps import next_steps
from backfill_tasks.scoring.comparison import Agreement, Comparison
from backfill_tasks.scoring.sessions import AtProvider, Session
from backfill_tasks.scoring.spend import shown

#: What became of a session's jobs, in display order, and what it means.
_MEANINGS = {
    "scored": "scored",
    "unchanged": "ended and changed nothing",
    "retried": "to be tried again",
    "failed": "FAILED for good",
    "given_back": "given back untried",
    "lost": "taken away meanwhile",
}


def summary(session: Session, queue: str) -> str:
    """Return a session as a few lines: its state, its jobs, its money, why it waits, and what to type next.

    `queue`: where workers get its batches.
    """
    steps = next_steps(session, queue)
    return "\n".join([*_lines(session), *([""] if steps else []), *steps])


def _lines(session: Session) -> Iterator[str]:
    yield f"Scoring {session.id} · {session.state} · {session.scorer} · {duration(session.seconds)}"
    if session.reason:
        yield wrapped(session.reason, indent=2)
    counts = {name: getattr(session.written, name) for name in _MEANINGS}
    yield "  " + ", ".join(
        f"{number:,} {_MEANINGS[name]}" for name, number in counts.items() if number or name == "scored"
    )
    if session.seconds > 0 and session.written.ended:
        yield f"  {60 * session.written.ended / session.seconds:,.0f} jobs/min"
    if session.requests or session.max_spend is not None:
        yield f"  {_money(session)}"
    if session.at_provider.batches:
        yield f"  {_at_provider(session.at_provider)}"
    if session.at_provider.ambiguous:
        yield f"  {counted(session.at_provider.ambiguous, 'requests')} may have been paid for without a result"
    if session.state == "running" or session.at_provider.batches:
        for reason in session.reasons:
            yield wrapped(f"waits: {reason}", indent=2)
        if session.alive < session.slots:
            quiet = session.slots - session.alive
            yield f"  {quiet} of {counted(session.slots, 'slots')} {'shows' if quiet == 1 else 'show'} no life"


def _at_provider(found: AtProvider) -> str:
    batches = "1 batch" if found.batches == 1 else f"{found.batches:,} batches"
    requests = counted(found.requests, "requests")
    cancelled = f"; {found.cancelled:,} being cancelled" if found.cancelled else ""
    since = f"the oldest for {duration(found.seconds)} (24 h at most)"
    return f"at the provider: {requests} in {batches}, {since}{cancelled}"


def _money(session: Session) -> str:
    budget = "" if session.max_spend is None else f" of {shown(session.max_spend)}"
    unknown = f"; {shown(session.unknown_spent)} of it is an upper bound" if session.unknown_spent else ""
    reserved = f", {shown(session.reserved)} reserved" if session.reserved else ""
    gone = f" ({shown(session.unknown_reserved)} unknown)" if session.unknown_reserved else ""
    return f"spent {shown(session.spent)}{budget} for {counted(session.requests, 'requests')}{unknown}{reserved}{gone}"


def as_json(session: Session) -> dict[str, Any]:
    """Return a session as a JSON object. Money is in millionths."""
    return {
        "session": session.id,
        "scorer": session.scorer,
        "state": session.state,
        "reason": session.reason,
        "started_at": session.started_at.isoformat(),
        "finished_at": session.finished_at and session.finished_at.isoformat(),
        "slots": session.slots,
        "slots_alive": session.alive,
        "batches": session.batches,
        "counts": {name: getattr(session.written, name) for name in _MEANINGS},
        "waits": list(session.reasons),
        "max_spend_micros": session.max_spend,
        "spent_micros": session.spent,
        "spent_unknown_micros": session.unknown_spent,
        "reserved_micros": session.reserved,
        "reserved_unknown_micros": session.unknown_reserved,
        "requests": session.requests,
        "input_tokens": session.input_tokens,
        "output_tokens": session.output_tokens,
        "at_provider": {
            "batches": session.at_provider.batches,
            "requests": session.at_provider.requests,
            "cancelled": session.at_provider.cancelled,
            "oldest_seconds": session.at_provider.seconds,
        },
        "ambiguous_requests": session.at_provider.ambiguous,
    }


def comparison(found: Comparison) -> str:
    """Return how far a scorer agrees with existing scores, one line for each workspace and one for all."""
    heads = ("workspace", "compared", "exact", "within one", "no score")
    rows = [
        (
            each.client or "all",
            f"{each.compared:,}",
            _share(each.exact, each),
            _share(each.within_one, each),
            f"{each.unscored:,}",
        )
        for each in found.agreements
    ]
    lines = [table(heads, rows)]
    if found.spent:
        lines.append(f"spent {shown(found.spent)}")
    if found.stopped:
        lines.append(wrapped(f"the rest of the sample is left out: {found.stopped}", indent=0))
    return "\n".join(lines)


def _share(number: int, of: Agreement) -> str:
    scored = of.compared - of.unscored
    return share(number, scored) if scored else "-"


def comparison_as_json(found: Comparison) -> dict[str, Any]:
    """Return a comparison as a JSON object. Money is in millionths."""
    *workspaces, every = [asdict(each) for each in found.agreements]
    return {"workspaces": workspaces, "all": every, "spent_micros": found.spent, "stopped": found.stopped}
