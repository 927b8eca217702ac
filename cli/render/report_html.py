"""A run's history as one page of HTML."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from backfill_tasks import __version__
from backfill_tasks.cli.render import plots
from backfill_tasks.cli.render.counts import class_names, meanings
from backfill_tasks.cli.render.distribution_html import chart
from backfill_tasks.cli.render.events import details
from backfill_tasks.cli.render.lanes import lanes_in_words
from backfill_tasks.cli.render.road import end_of_road, headline, places
from backfill_tasks.cli.render.text import counted, duration, in_words, moment, spaced
from backfill_tasks.engine import ledger
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.ledger import History, Span
from backfill_tasks.engine.model import Run
from backfill_tasks.snapshot import Snapshot


def as_html(backfill: Backfill, history: History, seen: Snapshot, results: Sequence[int] = ()) -> str:
    """Return a self-contained page that runs no script, whatever the ledger contains.

    `seen`: the run with its road; `results`: how many items got their result over the time from its start until now.
    """
    run, pauses = history.run, history.pauses
    time = ledger.time_of(run)
    plot = plots.draw(time, history.timeline, holds=history.holds, pauses=pauses, items=backfill.items)
    return _template().render(
        run=run,
        items=backfill.items,
        result=backfill.result,
        chart=history.distribution and chart(history.distribution),
        uncounted=history.uncounted,
        facts=_facts(backfill, run),
        counts=_counts(backfill, run),
        parameters=_parameters(run),
        plot=None if plot is None else Markup(plot),  # noqa: S704  its text was escaped when it was drawn
        bucket=history.timeline[0].span,
        road=places(backfill, seen.road) if seen.road else [],
        headline=headline(backfill, seen.road) if seen.road and run.state == "complete" else "",
        forecast=end_of_road(backfill, seen.forecast) if seen.forecast and seen.forecast.state != "done" else "",
        done=backfill.done,
        road_plot=_road_plot(backfill, history, results),
        holds=history.holds,
        pauses=pauses,
        events=[(each, details(each)) for each in history.events],
        quarantined=history.quarantined,
        more=history.in_quarantine - len(history.quarantined),
        version=__version__,
    )


def _road_plot(backfill: Backfill, history: History, results: Sequence[int]) -> Markup | None:
    """Return the plot of items read and items with their result; None if none has one from a job."""
    run = history.run
    if not results:
        return None
    plot = plots.draw_road(
        Span(run.started_at, run.seen_at), history.timeline, results, items=backfill.items, done=backfill.done
    )
    return Markup(plot)  # noqa: S704  its text was escaped when it was drawn


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(moment=moment, duration=duration, number=lambda number: f"{number:,}")
    return environment.from_string(
        files("backfill_tasks.cli.render").joinpath("report.html.jinja").read_text(encoding="utf-8")
    )


def _facts(backfill: Backfill, run: Run) -> Mapping[str, str]:
    """Return when the run ran, who started it, its throughput and its cost."""
    state = "paused" if run.state == "paused" else "still in progress"
    ended = moment(run.finished_at) if run.finished_at else f"{state} at {moment(run.seen_at)}"
    facts = {
        "started by": run.started_by,
        "from": moment(run.started_at),
        "to": ended,
        "duration": duration(run.seconds),
        "pages": f"{run.pages:,} in {lanes_in_words(len(run.lanes))}",
        "throughput": f"{run.items_per_second:,.1f} {backfill.items}/s, from start to end",
    }
    if run.expected is not None:
        facts["expected"] = f"{counted(run.expected, backfill.items)}, counted before the start"
    if backfill.jobs:
        number, price = run.jobs(backfill.jobs), run.parameters.cost_per_job
        facts["jobs enqueued"] = f"{number:,}"
        if price is not None:
            facts["cost"] = f"{number * price:,.2f} ({counted(number, 'jobs')} at {price:g})"
    return facts


def _counts(backfill: Backfill, run: Run) -> list[tuple[str, int, str]]:
    """Return each class with its count and meaning."""
    known = {"read": f"{backfill.items} that its pages have read", **meanings(backfill)}
    return [(spaced(name), run.counts.get(name, 0), known[name]) for name in class_names(backfill, run)]


def _parameters(run: Run) -> dict[str, str]:
    """Return the run's parameters as now in force."""
    given = {**run.parameters.as_json(), "single_batch": run.single_batch}
    return {spaced(name): in_words(value, empty="none") for name, value in given.items()}
