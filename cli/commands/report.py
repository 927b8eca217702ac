"""The command `report`: write a run's history as one page of HTML."""

import logging
import os
import stat
from pathlib import Path

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.errors import ExtraError, UsageError
from backfill_tasks.escaping import visible

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
@click.pass_obj
def report(context: CommandContext, run: str | None, *, output: str | None) -> None:
    """Write a run's history (default: the newest) as HTML.

    One self-contained page shows how many items are enqueued and have their result, the
    run's parameters, counts, events and quarantined items. It plots throughput, page
    duration, pauses, waits and results over time. You can write it while the run is
    still in progress.

    \b
    Examples:
      backfill report
      backfill report 261124-091500-a1b2 -o report.html
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns if it can't write to its home directory
    try:
        from backfill_tasks.cli.render.report_html import as_html  # noqa: PLC0415  takes a second, and libraries that no other command needs
    except ImportError as error:
        why = str(error).partition("\n")[0]
        raise ExtraError(f"a report needs jinja2 and matplotlib ({why}): `pip install jinja2 matplotlib`") from None
    history = context.client.history(run, most_quarantined=_MOST_QUARANTINED)
    found = history.run.id
    seen = context.client.observer.snapshot(history.run)
    results = context.client.observer.results_over_time(history.run, buckets=_STRETCHES)
    page = as_html(context.parts.backfills[history.run.parameters.backfill], history, seen, results)
    if output == _STANDARD_OUTPUT:
        click.echo(page, nl=False)
        return
    path = Path(output or f"report-{found}.html")
    try:
        _write_private(path, page)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}. Change --output") from None
    click.echo(f"Report of run {found}: {path}")


def _write_private(path: Path, page: str) -> None:
    """Write a file that only this user can read, because it lists ids and errors; restrict an existing file as well."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  a Path can't open a descriptor
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fchmod(file.fileno(), 0o600)
        file.write(visible(page))
