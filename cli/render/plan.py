"""The plan of a run, shown before the operator confirms it."""

from backfill_tasks.cli.render.counts import count_lines, job_lines
from backfill_tasks.cli.render.forecast import forecast_line
from backfill_tasks.cli.render.lanes import lanes_in_words
from backfill_tasks.cli.render.text import duration, wrapped
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.planning import Plan


def plan_lines(backfill: Backfill, plan: Plan, address: str) -> list[str]:
    """Return what a run would do in the database at this address, its expected time and its jobs."""
    run = plan.run
    return [
        f"This run will write to {address}:",
        "",
        *count_lines(backfill, run),
        f"  {'pages':<16}{run.pages:>11,}   in {lanes_in_words(len(run.lanes))}",
        *_expected(backfill, plan),
        *job_lines(backfill, run),
        "",
    ]


def _expected(backfill: Backfill, plan: Plan) -> list[str]:
    """Return how long the run would take: its pages, and, of a backfill with jobs, the time to the last result."""
    if plan.forecast is None:
        return [f"  {'expected time':<16}{duration(plan.seconds):>11}"]
    last = f"  {f'last {backfill.result}':<16}{'':>11}   "
    return [wrapped(forecast_line(plan.forecast), indent=32, first=last)]
