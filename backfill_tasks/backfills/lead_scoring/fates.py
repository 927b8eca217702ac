"""What a page did with a lead, by elimination.

The ledger records the leads that a page enqueued and those in quarantine, and of the rest only how many were in each
class. So the classes and the reasons for passing a lead over are narrowed down by the page's counts and by the times in
the host's rows. Several remain where those don't tell: then the answer names all of them.

It is assumed that the host doesn't take a score away without a trace in scoredAt, and that its clock is right.
Workspaces and tags change without a trace; messages and jobs may be deleted.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType

from backfill_tasks.backfills.lead_scoring.state import State, is_after, is_among, is_before
from backfill_tasks.engine.explanation import Fate, Passage, PassedPage, joined
from backfill_tasks.engine.model import RunId

#: What a page does with a lead that it takes, in words, in display order.
_TAKEN: Mapping[str, str] = MappingProxyType(
    {
        "quarantined": "in quarantine",
        "inserted": "job created",
        "requeued": "job had ended, set to PENDING again",
        "refreshed": "job was PENDING, updated",
        "in_flight": "job in flight, left alone",
        "disqualified": "scored 1 for its tag, without a job",
    }
)

#: Why a page passes a lead over.
_PASSED_OVER: Mapping[str, str] = MappingProxyType(
    {
        "outside": "outside the run's --client-id",
        "created_later": "created only after the page",
        "already_scored": "it had a score",
        "no_inbound": "it had no inbound message",
    }
)

_WRITTEN = ("inserted", "requeued", "refreshed")

#: A time further ahead than this is an error of the host's, and proves nothing.
_FUTURE = timedelta(days=1)


def fates(state: State, passages: Sequence[Passage]) -> dict[RunId, Fate]:
    """Return what the page of each passage did with the lead."""
    return {each.run: _fate(state, each, each.page, passages) for each in passages if each.page is not None}


def _fate(state: State, passage: Passage, page: PassedPage, passages: Sequence[Passage]) -> Fate:
    if passage.error is not None:
        return Fate(("quarantined",), f"{_TAKEN['quarantined']}: {passage.error}")
    if passage.enqueued_at is not None:
        classes = _written(state, page, passages)
        return Fate(classes, f"enqueued{' by a retry' if page.released_at else ''}: {_said(classes)}")
    if not state.exists:
        return Fate((), "passed; the lead is gone, and the ledger doesn't record whether it was there")
    classes = _proven(state, passage, page) or _possible(state, passage, page, passages)
    return Fate(classes, _said(classes))


def _said(classes: Sequence[str]) -> str:
    if not classes:
        return "not enqueued, and neither the ledger nor the host's rows tell why"
    taken = [_TAKEN[each] for each in classes if each in _TAKEN]
    passed_over = [_PASSED_OVER[each] for each in classes if each in _PASSED_OVER]
    over = [f"passed over: {joined(passed_over)}"] if passed_over else []
    unknown = " (the ledger doesn't record which)" if len(classes) > 1 else ""
    return f"{'; or '.join([*taken, *over])}{unknown}"


def _written(state: State, page: PassedPage, passages: Sequence[Passage]) -> tuple[str, ...]:
    """Return the classes that a lead can be in whose job the page wrote, by when the job was created."""
    counted = tuple(each for each in _WRITTEN if page.counts.get(each))
    times, job = (page.retried if page.released_at else (page.at,)), state.job
    if job is None or not times:
        return counted
    if "inserted" in counted and is_among(job.created_at, times) and not _shares_a_time(state, page, passages):
        return ("inserted",)
    if is_before(job.created_at, min(times)):
        return tuple(each for each in counted if each != "inserted") or counted
    return counted


def _shares_a_time(state: State, page: PassedPage, passages: Sequence[Passage]) -> bool:
    """Return whether another run's page may have created the job just as well."""
    others = (each.page for each in passages if each.page is not None and each.page is not page)
    return state.job is not None and any(is_among(state.job.created_at, each.times) for each in others)


def _proven(state: State, passage: Passage, page: PassedPage) -> tuple[str, ...]:
    """Return the only class or reason that the host's rows prove; empty: they prove none."""
    if state.score is not None and state.scored_at is not None:
        if state.scored_by_page and page.counts.get("disqualified") and is_among(state.scored_at, page.times):
            return ("disqualified",)
        if not passage.options["rescore_all"] and is_before(state.scored_at, page.at):
            return ("already_scored",)
    ended = page.at + timedelta(seconds=page.seconds)
    if is_after(state.created_at, ended) and not is_after(state.created_at, state.seen_at + _FUTURE):
        return ("created_later",)
    return ()


def _had_ended(state: State, page: PassedPage) -> bool:
    """Return whether the lead's job had ended before the page and stayed so."""
    job = state.job
    return job is not None and job.status in ("SUCCEEDED", "FAILED") and is_before(job.finished_at, page.at)


def _possible(state: State, passage: Passage, page: PassedPage, passages: Sequence[Passage]) -> tuple[str, ...]:
    """Return the classes and reasons that nothing excludes, in display order."""
    unscored = state.score is None and state.scored_at is None
    was_scored_before = state.score is not None and is_before(state.scored_at, page.at)
    open_ = {
        "in_flight": bool(page.counts.get("in_flight")) and not _had_ended(state, page),
        "disqualified": bool(page.counts.get("disqualified")) and not unscored and not was_scored_before,
        "outside": passage.options["client_ids"] is not None,
        "created_later": not is_before(state.created_at, page.at),
        "already_scored": not passage.options["rescore_all"] and not unscored,
        "no_inbound": not is_before(state.first_inbound_at, page.at),
    }
    if page.enqueued is None:  # an older record: the page may have written its job
        written = _written(state, page, passages)
        if written == ("inserted",) and state.job is not None and is_among(state.job.created_at, page.times):
            return written
        open_ |= dict.fromkeys(written, True)
    return tuple(each for each in (*_TAKEN, *_PASSED_OVER) if open_.get(each))
