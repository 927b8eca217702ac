"""The forecast of a run that has not started: there is no history, so the host's drain is all that is known."""

from dataclasses import replace

from backfill_tasks.forecast.answer import Forecast
from backfill_tasks.forecast.history import History, Stretch
from backfill_tasks.forecast.road import told
from backfill_tasks.forecast.room import room
from backfill_tasks.forecast.situation import Drain, Situation
from backfill_tasks.forecast.what_if import between
from backfill_tasks.options import UNBOUNDED

#: What hosts take in a call unless configured otherwise: the older revisions 10 jobs, the newest 20.
_USUAL = Drain(least=10.0, most=20.0)

#: How many calls a measurement of the drain stands for: changes within the run are as probable as after those.
_CALLS = 30

#: The pace of an earlier session comes again within so much, either way.
_ABOUT = 1.25


def expected(found: Situation) -> Forecast:
    """Return when the last lead of a run that is about to start will have its score."""
    left = found.left
    if left is not None and not left.jobs:
        return Forecast.done("no lead needs a job")
    most = found.pace.max_jobs
    if left is not None and most is not None and most < left.jobs:
        return Forecast.never("budget", f"--max-jobs {most:,} is less than the {left.jobs:,.0f} jobs", reach=most)
    return _here(found) if found.reserved else _at_the_host(found)


def _here(found: Situation) -> Forecast:
    per_minute = found.scoring.per_minute
    if per_minute is None:
        return Forecast.unknown("scoring", "the jobs are reserved for `backfill work`, whose pace isn't known yet")
    # Reserved jobs don't wait until they are due.
    answer = _with(replace(found, spacing_seconds=None), per_minute / 60, 1 / _ABOUT, _ABOUT)
    return replace(
        answer, binds="scoring", reason=f"the newest `backfill work` scored {per_minute:,.0f} leads a minute"
    )


def _at_the_host(found: Situation) -> Forecast:
    is_known = found.drain.most is not None
    drain = found.drain if is_known else replace(found.drain, least=_USUAL.least, most=_USUAL.most)
    left, spare = room(drain, found.pace), room(drain, UNBOUNDED)
    if not left.most or not spare.most:
        return Forecast.unknown("live queue", "live jobs leave no room for ours just now")
    answer = _with(found, left.most / drain.call_seconds, max(left.least, left.most / 10) / left.most, 1.0)
    if answer.binds == "rate":
        return answer
    every, live = f"every {drain.call_seconds:g} s", f"{drain.live:,.0f} of them live"
    measured = f"the host takes {drain.most:,.0f} jobs {every}, {live}"
    assumed = f"assumed that the host takes {drain.least:g} to {drain.most:g} jobs {every}, which isn't measured yet"
    is_bound = isinstance(found.bound, int) and left.most < spare.most
    return replace(
        answer,
        binds="max pending" if is_bound else "drain",
        reason=(f"--max-pending {found.bound:,}; " if is_bound else "") + (measured if is_known else assumed),
    )


def _with(found: Situation, per_second: float, least: float, most: float) -> Forecast:
    """Return the forecast for a rate that has been seen elsewhere, and that is uncertain by these factors."""
    seconds = _CALLS * found.drain.call_seconds
    stretch = Stretch(seconds, max(1, round(per_second * seconds)))
    return told(found, History([stretch], stretch, 1.0), between(least, most))
