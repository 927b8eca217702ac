"""The outcome of a run's jobs: what the host has done with them, and when it will have done them all."""

from backfill_tasks.cli.render.text import WIDTH, duration, shortened
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Outcome


def outcome_lines(backfill: Backfill, run: Run, found: Outcome) -> list[str]:
    """Return what the host has done with a run's jobs, by status, and the time left."""
    if not found.known:
        return [f"  {'done by the host':<16}{'unknown':>11}   the run is older than the record of its jobs"]
    have = f"{backfill.items} have their {backfill.result} from this run's jobs"
    lines = [f"  {'done by the host':<16}{found.done:>11,}   {have}"]
    for status, number in found.jobs.items():
        waits = status == "PENDING" and found.oldest_seconds is not None
        since = f"   the oldest has been due for {duration(found.oldest_seconds or 0)}" if waits else ""
        lines.append(f"    {status:<14}{number:>11,}{since}")
    if found.never_due:
        lines.append(f"    {'never due':<14}{found.never_due:>11,}   due in more than 100 years: correct their runAt")
    per_minute = "-" if found.per_minute is None else f"{found.per_minute:,.1f}/min"
    lines.append(f"    {'drain':<14}{per_minute:>11}   {time_left(backfill, run, found)}")
    return lines


def outcome_line(backfill: Backfill, run: Run, found: Outcome) -> str:
    """Return the outcome on one line."""
    if not found.known:
        return "  host: unknown, the run is older than the record of its jobs"
    left = time_left(backfill, run, found)
    return shortened(f"  host: {found.done:,} {backfill.items} done · {found.unended:,} jobs left · {left}", WIDTH)


def time_left(backfill: Backfill, run: Run, found: Outcome) -> str:
    """Return when the last job will be done, or why that isn't known."""
    left = found.seconds_left(run.jobs_to_come(backfill.jobs))
    if left is None and found.never_due:
        return f"no end: {found.never_due:,} jobs never come due"
    if left is None:
        return "time left not yet known"
    if left:
        return f"the last job in about {duration(left)}"
    lacking = found.without_result
    return f"all jobs have ended, {lacking:,} gave no {backfill.result}" if lacking else "all jobs are done"
