"""The command `report`: write a run's history as one page of HTML."""

import json
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.render.distribution import distribution_lines
from backfill_tasks.errors import ExtraError, UsageError
from backfill_tasks.escaping import visible

if TYPE_CHECKING:
    from backfill_tasks.engine.ledger import History

#: How many quarantined items the report lists with their errors.
_MOST_QUARANTINED = 1_000

#: The number of stretches by which scores are counted over time: a plot is hardly finer.
_STRETCHES = 200

#: The value of `-o` that means standard output.
_STANDARD_OUTPUT = "-"


@click.command()
@click.argument("run", required=False)
@click.option(
    "-o", "--output", metavar="PATH", help="File to write; - for standard output.  [default: report-RUN.html]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object; write no page.")
@click.pass_obj
def report(context: CommandContext, run: str | None, *, output: str | None, as_json: bool) -> None:
    """Write a run's history (default: the newest) as HTML, and show its results.

    One self-contained page shows how many items are enqueued and have their result, the
    run's parameters, counts, events and quarantined items. It plots throughput, page
    duration, pauses, waits and results over time. You can write it while the run is
    still in progress. For lead scoring, the page and the terminal show how many leads
    have which score, by workspace.

    \b
    Examples:
      backfill report
      backfill report 261124-091500-a1b2 -o report.html
      backfill report --json
    """
    if as_json and output:
        raise UsageError("--json and --output contradict each other: --json writes no page")
    history = context.client.history(run, most_quarantined=_MOST_QUARANTINED)
    if as_json:
        click.echo(json.dumps(_as_json(history), ensure_ascii=False))
        return
    page = _page(context, history)
    if output == _STANDARD_OUTPUT:
        click.echo(page, nl=False)
        return
    path = Path(output or f"report-{history.run.id}.html")
    try:
        _write_private(path, page)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}. Change --output") from None
    for line in _results(context, history):
        click.echo(line)
    click.echo(f"Report of run {history.run.id}: {path}")


def _page(context: CommandContext, history: "History") -> str:
    """Return the page.

    Raises:
        ExtraError: a library that it needs is missing.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns if it can't write to its home directory
    try:
        from backfill_tasks.cli.render.report_html import as_html  # noqa: PLC0415  takes a second, and libraries that no other command needs
    except ImportError as error:
        why = str(error).partition("\n")[0]
        raise ExtraError(f"a report needs jinja2 and matplotlib ({why}): `pip install jinja2 matplotlib`") from None
    seen = context.client.observer.snapshot(history.run)
    results = context.client.observer.results_over_time(history.run, buckets=_STRETCHES)
    return as_html(context.parts.backfills[history.run.parameters.backfill], history, seen, results)


def _as_json(history: "History") -> dict[str, object]:
    return {
        "run_id": history.run.id,
        "state": history.run.state,
        "distribution": history.distribution and history.distribution.as_json(),
        "uncounted": history.uncounted,
    }


def _results(context: CommandContext, history: "History") -> list[str]:
    """Return the lines about the results of the run's items; none for a backfill without such results."""
    backfill = context.parts.backfills[history.run.parameters.backfill]
    if history.uncounted:
        return [f"The {backfill.result}s can't be counted now: {history.uncounted}"]
    if history.distribution is None:
        return []
    return [*distribution_lines(backfill, history.run, history.distribution), ""]


def _write_private(path: Path, page: str) -> None:
    """Write a file that only this user can read, because it lists ids and errors; restrict an existing file as well."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  a Path can't open a descriptor
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fchmod(file.fileno(), 0o600)
        file.write(visible(page))
