"""The command `backfill` and its subcommands."""

import signal
from types import FrameType

import click

from backfill_tasks import __version__
from cli.commands import cancel, config, init, pause, runs, status, verify, watch
from cli.run import run
from cli.session import Session, one_line_errors


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="backfill")
@click.pass_context
def backfill(context: click.Context) -> None:
    """Backfill a live PostgreSQL database through Celery workers, page by page.

    \b
    First:  backfill config          what is set, and from where
            backfill run             count what would happen; changes nothing
    Then:   backfill run --apply     do it, with live progress
            backfill verify          ask the database whether it is all true
    """
    context.obj = Session()


for command in (run, status, watch, runs, verify, pause, cancel, init, config):
    backfill.add_command(command)


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Before anything is started, SIGTERM ends the command as Ctrl-C does; from then on, see follow.signals."""
    raise click.Abort


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    signal.signal(signal.SIGTERM, _stop)
    with one_line_errors():
        status_code = backfill.main(standalone_mode=False)
        raise click.exceptions.Exit(status_code if isinstance(status_code, int) else 0)
