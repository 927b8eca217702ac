"""The command `backfill` and its subcommands."""

import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import click

from backfill_tasks import __version__
from backfill_tasks.errors import UsageError
from cli import streams
from cli.commands.cancel import cancel
from cli.commands.config import config
from cli.commands.dead_letters import dead_letters
from cli.commands.doctor import doctor
from cli.commands.events import events
from cli.commands.init import init
from cli.commands.metrics import metrics
from cli.commands.pause import pause
from cli.commands.pressure import pressure
from cli.commands.rate import rate
from cli.commands.report import report
from cli.commands.resume import resume
from cli.commands.retry import retry
from cli.commands.run import run
from cli.commands.runs import runs
from cli.commands.status import status
from cli.commands.tune import tune
from cli.commands.verify import verify
from cli.commands.watch import watch
from cli.context import Session, one_line_errors


class _Commands(click.Group):
    """Ends a command quietly on Ctrl-C and on SIGTERM; from the moment a run is seeded, see cli.signals."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's own signature
        """In the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="backfill")
@click.pass_context
def backfill(context: click.Context) -> None:
    """Backfill a live PostgreSQL database through Celery workers, page by page.

    \b
    First:  backfill config          what is set, and from where
            backfill run             count what would happen; changes nothing
    Then:   backfill run --apply     do it, with live progress
            backfill verify          ask the database whether it is all true

    Every command explains itself with --help, and shows examples.
    """
    context.obj = Session()


#: In the order in which an operator comes to need them.
_IN_ORDER = (
    doctor, init, config,
    run, watch, status, runs, events, verify, report,
    pause, resume, tune, rate, retry, cancel, dead_letters, pressure, metrics,
)  # fmt: skip

for command in _IN_ORDER:
    backfill.add_command(command)


def _require_text(words: Sequence[str]) -> None:
    """Raise UsageError for a word of the command line that is not UTF-8 text: no id in the database is like that."""
    for before, word in pairwise(words):
        if not word.isprintable() and any("\ud800" <= character <= "\udfff" for character in word):
            raise UsageError(f"what stands after {before} is not UTF-8 text: type the run, the id or the path again")


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    streams.escape()
    with one_line_errors():
        _require_text(sys.argv)
        status_code = backfill.main(standalone_mode=False)
        raise click.exceptions.Exit(status_code if isinstance(status_code, int) else 0)
