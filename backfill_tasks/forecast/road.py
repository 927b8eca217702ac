"""The forecast of a run's road: its leads are enqueued, come due, are drained, and have a score.

Model: the stages form a pipeline, so the slowest one decides (the bottleneck of a tandem queue: with much more work than
room between the stages, the time is that of the bottleneck, and the others add a term that doesn't grow with the work;
Kleinrock, Queueing Systems, vol. 2, section 2.7, the fluid approximation). Due times and pages are deterministic. The
drain isn't: see `paths.py`. What the drain's history shows contains what has bounded it so far: `--max-pending`, live
jobs, failures and their retries. A forecast with other options scales it: see `changes.py`.
"""

from dataclasses import replace
from math import ceil

from backfill_tasks.forecast.answer import Binds, Forecast
from backfill_tasks.forecast.history import History, history
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

#: A budget that pays for so many more leads than are left is enough: what a lead costs is an average so far.
_ENOUGH = 1.05

#: Live jobs decide if they take more than this share of a call.
_MOSTLY = 0.5


def forecast(found: Situation, *, factor: Factor = unchanged) -> Forecast:
    """Return when the last lead has its score.

    Args:
        found: the situation.
        factor: how much faster the drain is than its history shows, for a forecast with other options.
    """
    return _ended(found) or _stands(found) or _told(found, factor)


def _ended(found: Situation) -> Forecast | None:
    left = found.left
    if left is not None and left.jobs < 0.5 and not found.waiting:  # noqa: PLR2004  rounds to none
        return Forecast.done("every job has ended")
    return None


def _stands(found: Situation) -> Forecast | None:
    """Return why the road has no end by itself, or why none can be told."""
    if found.never_due:
        return Forecast.never("never due", f"{found.never_due:,} jobs never come due: correct their runAt")
    halted = found.state in ("paused", "failed")
    if halted and (found.to_come is None or found.to_come.jobs >= 1):
        binds: Binds = "paused" if found.state == "paused" else "failed"
        why = f": {found.why}" if found.why else ""
        return Forecast.never(binds, f"the run is {found.state}{why}", reach=found.done + found.waiting)
    if found.to_come is None:
        return Forecast.unknown("unmeasured", "the leads were not counted before the run, and no page is done yet")
    return _jobs_budget(found, found.to_come) or _money(found) or _reserved(found)


def _jobs_budget(found: Situation, to_come: Left) -> Forecast | None:
    most = found.pace.max_jobs
    if most is None or found.enqueued + to_come.jobs <= most + to_come.deviation:
        return None
    short = round(found.enqueued + to_come.jobs - most)
    reason = f"--max-jobs {most:,} ends before the last lead: about {short:,} leads get no job"
    return Forecast.never("budget", reason, reach=most)


def _money(found: Situation) -> Forecast | None:
    reach, left = found.scoring.reach, found.left
    if reach is None or left is None or not found.scoring.running or reach >= left.jobs:
        return None
    reaches = f"the budget of `backfill work` pays for about {reach:,.0f} of the {left.jobs:,.0f} leads that are left"
    return Forecast.never("budget", reaches, reach=found.done + round(reach))


def _reserved(found: Situation) -> Forecast | None:
    if not found.reserved or found.scoring.running or not found.due_seconds:
        return None
    why = found.scoring.reason or "no worker of ours is scoring"
    reason = f"the jobs are reserved, and {why}: `backfill work` starts it. Without it, the host takes over later"
    return Forecast.unknown("scoring", reason)


def _told(found: Situation, factor: Factor) -> Forecast:
    seen = history(found.ends, found.bucket_seconds)
    left = found.left
    if seen is None or left is None or seen.ended < _LEAST_ENDED or seen.seconds < _LEAST_CALLS * _call(found):
        return Forecast.unknown("unmeasured", f"{found.done:,} jobs have ended so far: too few to tell")
    seen = replace(seen, dispersion=max(seen.dispersion, _random_live(found, seen)))
    due, pages = _due_seconds(found), found.pages_seconds or 0.0
    schedule = Schedule(_call(found), max(due, pages), (due and found.spacing_seconds) or 0.0)
    drained = durations(seen, left, schedule, factor=factor)
    earliest, middle, latest = (quantile(drained, share) for share in (_EARLIEST, 0.5, _LATEST))
    binds, reason = _binds(found, seen, due=due, pages=pages, middle=middle)
    return Forecast.told(earliest, latest, binds, reason)


def _random_live(found: Situation, seen: History) -> float:
    """Return the least dispersion of our jobs: live jobs arrive at random, and ours get what these leave.

    The variance of live jobs is their mean, as in a Poisson process, and that of what they leave is the same.
    """
    ours = max(1, seen.ended) / seen.seconds * found.drain.call_seconds
    return found.drain.live / ours


def _call(found: Situation) -> float:
    """Return the time between two calls of whoever does the jobs."""
    return min(found.drain.call_seconds, found.bucket_seconds) if found.scoring.running else found.drain.call_seconds


def _due_seconds(found: Situation) -> float:
    """Return when the last job comes due, including those to come; reserved jobs don't wait for that."""
    if found.reserved and found.scoring.running:
        return 0.0
    to_come = found.to_come.jobs if found.to_come else 0.0
    return found.due_seconds + (found.spacing_seconds or 0.0) * to_come


def _binds(found: Situation, seen: History, *, due: float, pages: float, middle: float) -> tuple[Binds, str]:
    drain, per_minute = found.drain, 60 * seen.now.rate
    if not seen.now.ended and seen.now.seconds >= _STILL_CALLS * _call(found):
        return "stopped", f"no job of this run has ended for {ceil(seen.now.seconds / 60):,} min"
    if pages >= _DECIDES * middle and pages >= due:
        return "pages", "pages enqueue more slowly than the jobs are done"
    if due >= _DECIDES * middle:
        return "rate", f"the last job comes due then{_spread(found)}"
    if found.scoring.running and (found.reserved or _mostly_here(found, per_minute)):
        return "scoring", f"our workers score {per_minute:,.1f} leads a minute"
    ours = seen.now.rate * drain.call_seconds
    taken = f"the host takes {per_minute:,.1f} of this run's jobs a minute"
    if isinstance(found.bound, int) and found.to_come and found.to_come.jobs >= 1 and _is_full(found, ours):
        return "max pending", f"--max-pending {found.bound:,} leaves room for {ours:,.0f} jobs at a call of the host"
    if drain.starved:
        return "live queue", drain.starved
    if drain.least and drain.live > _MOSTLY * drain.least:
        return "live queue", f"live jobs take {drain.live:,.0f} of the {drain.least:,.0f} jobs of a call: {taken}"
    return "drain", taken


def _spread(found: Situation) -> str:
    return "" if found.pace.jobs_per_minute is None else f": --jobs-per-minute {found.pace.jobs_per_minute:g}"


def _mostly_here(found: Situation, per_minute: float) -> bool:
    return (found.scoring.per_minute or 0.0) > _MOSTLY * per_minute


def _is_full(found: Situation, ours: float) -> bool:
    """Return whether a constant bound, not the host, limits our jobs."""
    most = found.drain.most
    return (
        isinstance(found.bound, int)
        and ours + found.drain.live >= _DECIDES * found.bound
        and (most is None or found.bound < most)
    )
