"""A run's counts by class, with their meanings, and its jobs: how they are spread and what they cost."""

from backfill_tasks.cli.render.text import counted, duration, spaced
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Run


def class_names(backfill: Backfill, run: Run) -> tuple[str, ...]:
    """Return the names of a run's counts that are shown, in display order."""
    names = ("read", *backfill.classes, "quarantined")
    return (*names, *backfill.passed_over) if run.mode == "dry-run" else names


def meanings(backfill: Backfill) -> dict[str, str]:
    """Return the meaning of each class of a backfill's items."""
    return {
        **backfill.classes,
        "quarantined": "failed on their own, kept with their error",
        **backfill.passed_over,
    }


def count_lines(backfill: Backfill, run: Run) -> list[str]:
    """Return the counts with their meanings, one per line."""
    lines = [f"  {backfill.items + ' read':<16}{run.counts.get('read', 0):>11,}"]
    lines += [_line(backfill, run, name) for name in (*backfill.classes, "quarantined")]
    if run.mode == "dry-run":
        lines.append("  not read")
        lines += [_line(backfill, run, name) for name in backfill.passed_over]
    return lines


def _line(backfill: Backfill, run: Run, name: str) -> str:
    return f"    {spaced(name):<14}{run.counts.get(name, 0):>11,}   {meanings(backfill)[name]}"


def job_lines(backfill: Backfill, run: Run) -> list[str]:
    """Return the time over which a run's jobs come due, and their cost, as far as known."""
    number = run.jobs(backfill.jobs)
    if not backfill.jobs or not number:
        return []
    pace, cost = run.parameters.pace, run.parameters.cost_per_job
    lines = []
    if pace.jobs_per_minute is not None:
        spread = duration(60 * number / pace.jobs_per_minute)
        lines.append(f"  {'spread over':<16}{spread:>11}   {pace.jobs_per_minute:g} jobs come due per minute")
    if cost is not None:
        lines.append(f"  {'cost':<16}{number * cost:>11,.2f}   {counted(number, 'jobs')} at {cost:g}")
    return lines
