"""The summary of one run, and the list of all runs."""

from collections.abc import Iterable, Sequence

from backfill_tasks.cli.render.counts import count_lines, job_lines
from backfill_tasks.cli.render.forecast import what_if_lines
from backfill_tasks.cli.render.lanes import lane_lines, lanes_in_words
from backfill_tasks.cli.render.next_steps import next_steps
from backfill_tasks.cli.render.road import headline, road_lines
from backfill_tasks.cli.render.text import WIDTH, duration, shortened, table, with_reason, wrapped
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.model import Quarantined, Run
from backfill_tasks.engine.road import Road
from backfill_tasks.escaping import one_line
from backfill_tasks.forecast.answer import Forecast, WhatIf


def summary(
    backfill: Backfill,
    run: Run,
    *,
    quarantined: Sequence[Quarantined] = (),
    road: Road | None = None,
    forecast: Forecast | None = None,
    what_ifs: Sequence[WhatIf] = (),
    small: str | None = None,
    bound: str | None = None,
) -> str:
    """Return the summary of a run: its state, counts, pace, road, lanes, quarantine and next steps.

    `small`: why its pages are smaller than the limit. `bound`: the bound on jobs in the host's queue, and why.
    `what_ifs`: forecasts with other options.
    """
    lines = [f"Run {run.id} · {run.parameters.backfill} · {run.mode} · {run.state}"]
    if run.reason:
        lines.append(wrapped(one_line(run.reason), indent=2))
    if road is not None and run.state == "complete" and (said := headline(backfill, road)):
        lines.append(wrapped(said, indent=2))
    lines += ["", *count_lines(backfill, run)]
    lines.append(f"  {'pages':<16}{run.pages:>11,}   in {lanes_in_words(len(run.lanes))}")
    if small:
        lines.append(wrapped(small, indent=32))
    lines.append(f"  {'duration':<16}{duration(run.seconds):>11}   {run.items_per_second:,.0f} {backfill.items}/s")
    lines += job_lines(backfill, run)
    if bound:
        lines.append(wrapped(bound, indent=32))
    if road is not None and road.has_jobs and road.enqueued:
        lines += ["", *road_lines(backfill, run, road, forecast)]
    lines += what_if_lines(what_ifs, indent=32)
    if run.lanes:
        lines += ["", *lane_lines(run)]
    if quarantined:
        lines += ["", *_quarantine(run, quarantined)]
    lines += ["", *next_steps(run, road_has_ended=road is None or not road.waiting)]
    return "\n".join(lines)


def _quarantine(run: Run, quarantined: Sequence[Quarantined]) -> list[str]:
    """Return the quarantined items that were read, and how many more there are."""
    lines = ["  quarantined"]
    lines += [with_reason(each.item, each.error, indent=4) for each in quarantined]
    more = run.counts.get("quarantined", 0) - len(quarantined)
    return [*lines, f"    … and {more:,} more"] if more > 0 else lines


def run_list(found: Iterable[Run]) -> str:
    """Return one line per run; a full line shortens its last column, the backfill."""
    rows = [
        (
            run.id,
            run.state,
            duration(run.seconds),
            f"{run.counts.get('read', 0):,}",
            f"{run.counts.get('quarantined', 0):,}",
            run.parameters.backfill,
        )
        for run in found
    ]
    lines = table(("run", "state", "duration", "read", "quarantined", "backfill"), rows).splitlines()
    return "\n".join(shortened(line, WIDTH) for line in lines)
