"""The forecast of a run's road: its leads are enqueued, come due, are drained, and have a score.

Model: the stages form a pipeline, so the slowest one decides. (The bottleneck of a tandem queue: with much more work
than room between the stages, the time is that of the bottleneck, and the others add a term that doesn't grow with the
work; Kleinrock, Queueing Systems, vol. 2, section 2.7, the fluid approximation.) Due times and pages are deterministic.
The drain isn't: see `paths.py`. What the drain's history shows contains what has bounded it so far: `--max-pending`,
live jobs, failures and their retries. A forecast with other options scales it: see `what_if.py`.
"""

from dataclasses import replace

from backfill_tasks.forecast.answer import Binds, Forecast
from backfill_tasks.forecast.history import History, Stretch
from backfill_tasks.forecast.paths import Factor, Left, Schedule, durations, quantile, unchanged
from backfill_tasks.forecast.situation import Situation

#: The interval contains four of five futures.
_EARLIEST, _LATEST = 0.1, 0.9

#: A forecast needs so many jobs that have ended, over so many calls of the host.
_LEAST_ENDED, _LEAST_CALLS = 5, 3.0

#: A stage that takes this share of the time decides it.
_DECIDES = 0.8

#: The host stands still if no job has ended for so many calls.
_STILL_CALLS = 10

#: Live jobs, or our own workers, decide if they take more than this share.
_MOSTLY = 0.5

_HALF_A_JOB = 0.5


def forecast(found: Situation, *, factor: Factor = unchanged) -> Forecast:
    """Return when the last lead has its score.

    Args:
        found: the situation.
        factor: how much faster the drain is than its history shows, for a forecast with other options.
    """
    seen = found.history
    return _ended(found) or _stands(found) or _too_few(found, seen) or told(found, seen, factor)


def told(found: Situation, seen: History | None, factor: Factor) -> Forecast:
    """Return the interval for what is left, given how jobs have ended so far, or are expected to."""
    left = found.left
    if seen is None or left is None:
        return Forecast.unknown("unmeasured", "no job has ended yet")
    seen = replace(seen, dispersion=max(seen.dispersion, _random_live(found, seen)))
    due, pages = _due_seconds(found), found.pages_seconds or 0.0
    schedule = Schedule(found.call_seconds, max(due, pages), (due and found.spacing_seconds) or 0.0)
    futures = durations(seen, left, schedule, factor=factor)
    earliest, middle, latest = (quantile(futures, share) for share in (_EARLIEST, 0.5, _LATEST))
    binds, reason = _schedule_binds(found, due, pages, middle) or _drain_binds(found, seen)
    return Forecast.told(earliest, latest, binds, reason)


# ---- why there is no interval


def _ended(found: Situation) -> Forecast | None:
    left = found.left
    if left is not None and left.jobs < _HALF_A_JOB:
        return Forecast.done("every job has ended")
    return None


def _stands(found: Situation) -> Forecast | None:
    """Return why the road has no end by itself, or why none can be told."""
    if found.never_due:
        return Forecast.never("never due", f"{found.never_due:,} jobs never come due: correct their runAt")
    halted: Binds | None = "paused" if found.state == "paused" else "failed" if found.state == "failed" else None
    if halted and (found.to_come is None or found.to_come.jobs >= _HALF_A_JOB):
        why = f": {found.why}" if found.why else ""
        return Forecast.never(halted, f"the run is {found.state}{why}", reach=found.ended + found.waiting)
    if found.to_come is None:
        return Forecast.unknown("unmeasured", "how many leads will need a job isn't known yet")
    return _jobs_budget(found, found.to_come) or _money(found) or _reserved(found)


def _jobs_budget(found: Situation, to_come: Left) -> Forecast | None:
    most, enqueued = found.pace.max_jobs, found.ended + found.waiting
    if most is None or enqueued + to_come.jobs <= most + to_come.deviation:
        return None
    short = round(enqueued + to_come.jobs - most)
    reason = f"--max-jobs {most:,} ends before the last lead: about {short:,} leads get no job"
    return Forecast.never("budget", reason, reach=most)


def _money(found: Situation) -> Forecast | None:
    reach, left = found.scoring.reach, found.left
    if not found.reserved:  # the host does what our workers leave
        return None
    if reach is None or left is None or not found.scoring.running or reach >= left.jobs:
        return None
    pays = (
        f"the budget of `backfill work` pays for about {reach:,.0f} of the {left.jobs:,.0f} leads that are left; the"
        " others come due for the host's runner later"
    )
    return Forecast.never("budget", pays, reach=found.ended + round(reach))


def _reserved(found: Situation) -> Forecast | None:
    if not found.reserved or found.scoring.running or not (found.due_seconds or found.state == "running"):
        return None
    reason = f"the jobs are reserved for our own workers, and {found.scoring.reason}: `backfill work` starts it"
    return Forecast.unknown("scoring", reason)


def _too_few(found: Situation, seen: History | None) -> Forecast | None:
    if seen is not None and seen.ended >= _LEAST_ENDED and seen.seconds >= _LEAST_CALLS * found.call_seconds:
        return None
    number = 0 if seen is None else seen.ended
    return Forecast.unknown("unmeasured", f"only {number:,} jobs have ended so far under the present conditions")


# ---- the parts of the model


def _random_live(found: Situation, seen: History) -> float:
    """Return the least dispersion of our jobs: live jobs arrive at random, and ours get what these leave.

    The variance of live jobs is their mean, as in a Poisson process, and that of what they leave is the same.
    """
    ours = max(1, seen.ended) / seen.seconds * found.drain.call_seconds
    return found.drain.live / ours


def _due_seconds(found: Situation) -> float:
    """Return when the last job comes due, including those to come; reserved jobs don't wait for that."""
    if found.reserved and found.scoring.running:
        return 0.0
    to_come = found.to_come.jobs if found.to_come else 0.0
    return found.due_seconds + (found.spacing_seconds or 0.0) * to_come


# ---- what binds


def _schedule_binds(found: Situation, due: float, pages: float, middle: float) -> tuple[Binds, str] | None:
    """Return the constraint if it is the due times or the pages; None: it isn't."""
    if max(due, pages) < _DECIDES * middle:
        return None
    if pages > due:
        return "pages", "pages enqueue jobs more slowly than they are done"
    per_minute = found.pace.jobs_per_minute
    return "rate", "the last job comes due then" + ("" if per_minute is None else f": --jobs-per-minute {per_minute:g}")


def _drain_binds(found: Situation, seen: History) -> tuple[Binds, str]:
    """Return the constraint among those that the drain's history contains."""
    per_minute = 60 * seen.now.rate
    if _stands_still(found, seen.now):
        return "stopped", f"no job of this run has ended for {seen.now.seconds / 60:,.0f} min"
    here = found.scoring.per_minute or 0.0
    if found.scoring.running and (found.reserved or here > _MOSTLY * per_minute):
        return "scoring", f"our workers score {per_minute:,.1f} leads a minute"
    return _bound_binds(found, seen) or _live_binds(found, per_minute) or ("drain", _taken(per_minute))


def _stands_still(found: Situation, now: Stretch) -> bool:
    return not now.ended and now.seconds >= _STILL_CALLS * found.call_seconds


def _bound_binds(found: Situation, seen: History) -> tuple[Binds, str] | None:
    """Return the constraint if it is a constant bound on waiting jobs: live jobs and ours fill it, but not the call."""
    most, ours, to_come = found.bound, seen.now.rate * found.drain.call_seconds, found.to_come
    if not isinstance(most, int) or to_come is None or to_come.jobs < 1:
        return None
    is_full = ours + found.drain.live >= _DECIDES * most
    if not is_full or (found.drain.most is not None and found.drain.most <= most):
        return None
    return "max pending", f"--max-pending {most:,} leaves room for {ours:,.0f} of this run's jobs at a call of the host"


def _live_binds(found: Situation, per_minute: float) -> tuple[Binds, str] | None:
    drain = found.drain
    if drain.starved:
        return "live queue", drain.starved
    if not drain.least or drain.live <= _MOSTLY * drain.least:
        return None
    live = f"live jobs take {drain.live:,.0f} of the {drain.least:,.0f} jobs of a call"
    return "live queue", f"{live}, and {_taken(per_minute)}"


def _taken(per_minute: float) -> str:
    return f"the host takes {per_minute:,.1f} of this run's jobs a minute"
