"""The answer to "why has this lead no score?", in a sentence, and what to type."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from backfill_tasks.backfills.lead_scoring.state import MOST_AHEAD, State
from backfill_tasks.engine.explanation import Fate, Passage, Verdict
from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.verdicts import gone, moment, of_runs
from backfill_tasks.escaping import one_line

_MOST_SHOWN = 60


@dataclass(frozen=True)
class _Case:
    """What the rules judge. `ledgers`: the verdict of the ledger alone; `again`: the command that comes to the lead."""

    state: State
    passages: Sequence[Passage]
    ledgers: Verdict
    again: str


def verdict(backfill: str, state: State, passages: Sequence[Passage], fates: Mapping[RunId, Fate]) -> Verdict:
    """Return the verdict on a lead: what keeps it from having a score, or who set the score."""
    scope = f" --client-id {quote(one_line(state.client))}" if state.client is not None else ""
    ledgers = of_runs(backfill, passages, fates, scope=scope)
    comes = ledgers.next if ledgers.kind in ("ahead", "halted") else None
    case = _Case(state, passages, ledgers, comes or f"backfill run {backfill} --apply{scope}")
    return next((found for rule in _RULES if (found := rule(case)) is not None), ledgers)


def _gone(case: _Case) -> Verdict | None:
    return None if case.state.exists else gone(case.passages)


def _running(case: _Case) -> Verdict | None:
    job = case.state.job
    if job is None or job.status != "RUNNING":
        return None
    who = "`backfill work`" if job.is_held_here else "The host's runner"
    since = f" since {moment(job.locked_at)}" if job.locked_at else ""
    said = f"{_had(case.state)}{who} holds its job{since}: attempt {job.attempts} of {job.max_attempts}."
    return Verdict("running", said, "backfill work --status" if job.is_held_here else None)


def _pending(case: _Case) -> Verdict | None:
    state, job = case.state, case.state.job
    if job is None or job.status != "PENDING":
        return None
    had, failed = _had(state), ""
    if job.last_error:
        failed = f" Attempt {job.attempts} of {job.max_attempts} failed: {job.safe_error}."
    if state.here.submission is not None:
        id_, status = state.here.submission
        said = f"{had}Its job is in the provider's batch {id_}, {status}.{failed}"
        return Verdict("submitted", said, "backfill work --status")
    if job.run_at <= state.seen_at:
        ahead = f"{MOST_AHEAD:,} or more" if job.ahead == MOST_AHEAD else f"{job.ahead or 0:,}"
        return Verdict("waiting", f"{had}Its job is due since {moment(job.run_at)}, behind {ahead} others.{failed}")
    newest = next((each for each in case.passages if each.enqueued_at is not None), None)
    if newest is None or not newest.options["score_here"]:
        return Verdict("not_due", f"{had}Its job waits until it is due on {moment(job.run_at)}.{failed}")
    until = f"the host's runner takes over on {moment(job.run_at)}"
    if state.here.session is None:
        said = f"{had}Its job is reserved for `backfill work`, which isn't running; {until}.{failed}"
        return Verdict("reserved", said, "backfill work")
    said = f"{had}Its job is reserved for `backfill work`, session {state.here.session}; {until}.{failed}"
    return Verdict("reserved", said, "backfill work --status")


def _had(state: State) -> str:
    return f"It has a score, {state.score}, and a job to score it again. " if state.score is not None else ""


def _scored(case: _Case) -> Verdict | None:
    state = case.state
    if state.score is None:
        return None
    at = f" on {moment(state.scored_at)}" if state.scored_at else ""
    page = state.page_of_score(case.passages)
    if page is not None:
        return Verdict("disqualified", f"Run {page.run} scored it 1{at}, because its tag disqualified it.")
    return Verdict("scored", f"It has a score, {state.score}{at}, set by {setter(state)}.")


def _quarantined(case: _Case) -> Verdict | None:
    return case.ledgers if case.ledgers.kind == "quarantined" else None


def _ended(case: _Case) -> Verdict | None:
    """Return the verdict on an unscored lead whose job has ended."""
    state, job = case.state, case.state.job
    if job is None:
        return None
    at = f" on {moment(job.finished_at)}" if job.finished_at else ""
    if job.status == "FAILED":
        error = f": {job.safe_error}" if job.last_error else ", without an error"
        said = f"Its job FAILED{at} after {job.attempts} of {job.max_attempts} attempts{error}."
        return Verdict("failed", said, case.again)
    if job.status != "SUCCEEDED":
        status = one_line(job.status, most=_MOST_SHOWN)
        return Verdict("unknown_status", f"Its job has the status {status}, which this version doesn't know.")
    if job.client != state.client:
        why = "it names another workspace than the lead's, and a runner changes nothing then"
    elif state.first_inbound_at is None:
        why = "the lead has no inbound message"
    else:
        why = "a runner does that if it can't read the model's answer"
    return Verdict("without_score", f"Its job SUCCEEDED{at} and left no score: {why}.", case.again)


def _never_wrote(case: _Case) -> Verdict | None:
    if case.state.first_inbound_at is not None:
        return None
    return Verdict("never_wrote", "It has no inbound message, so no run enqueues it.")


def _ahead(case: _Case) -> Verdict | None:
    return case.ledgers if case.ledgers.kind in ("ahead", "halted") else None


def _job_gone(case: _Case) -> Verdict | None:
    enqueued = next((each for each in case.passages if each.enqueued_at is not None), None)
    if enqueued is None or enqueued.enqueued_at is None:
        return None
    at = moment(enqueued.enqueued_at)
    said = f"Run {enqueued.run} enqueued it on {at}, and its job is gone: the host deletes a job with its message."
    return Verdict("job_gone", said, case.again)


#: The rules, in order: the first one that applies gives the verdict; if none does, the ledger alone.
_RULES: Sequence[Callable[[_Case], Verdict | None]] = (
    _gone,
    _running,
    _pending,
    _scored,
    _quarantined,
    _ended,
    _never_wrote,
    _ahead,
    _job_gone,
)


def setter(state: State) -> str:
    """Return who set a lead's score, as far as the times in its rows tell."""
    job, at = state.job, state.scored_at
    if state.scored_by_page:
        return "a run that the ledger doesn't show, or by the old script: its tag disqualified it"
    if job is None or job.status != "SUCCEEDED" or job.finished_at is None or at is None:
        return "the host, or by a job that is gone"
    if job.finished_at == at:
        return f"`backfill work`{f', session {state.here.scored_in}' if state.here.scored_in else ''}"
    if job.started_at is not None and job.started_at <= at <= job.finished_at:
        return "the host's runner, in our job"
    return "the host, not in our job"
