"""The command `backfill` and its subcommands."""

import ast
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from itertools import pairwise
from textwrap import shorten
from typing import Any

import click

from backfill_tasks import __version__
from backfill_tasks.cli import streams
from backfill_tasks.cli.context import Session
from backfill_tasks.cli.errors import one_line_errors
from backfill_tasks.errors import UsageError

#: The commands, in the order in which an operator comes to need them. Each has the module of its name.
_IN_ORDER = (
    "doctor", "init", "config",
    "run", "watch", "status", "runs", "events", "verify", "report",
    "pause", "resume", "tune", "rate", "retry", "cancel", "dead-letters", "pressure", "metrics",
)  # fmt: skip


class _Commands(click.Group):
    """Imports a command when it is called: most of them need libraries that take a while to import.

    Ends a command quietly on Ctrl-C and on SIGTERM; from the moment a run is seeded, see signals.py.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's own signature
        """In the order in which an operator comes to need them."""
        return list(_IN_ORDER)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in _IN_ORDER:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"backfill_tasks.cli.commands.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        names = self.list_commands(ctx)
        width = formatter.width - max(map(len, names)) - 6
        with formatter.section("Commands"):
            formatter.write_dl([(name, _short(_docstring(name), width)) for name in names])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None


def _short(said: str, width: int) -> str:
    """Return a docstring's first sentence, as far as it has room."""
    return shorten(said.partition("\n\n")[0], width, placeholder=" ...")


def _docstring(command: str) -> str:
    """Return a command's docstring, read from its source."""
    name = command.replace("-", "_")
    module = ast.parse(files("backfill_tasks.cli.commands").joinpath(f"{name}.py").read_text(encoding="utf-8"))
    functions = [each for each in module.body if isinstance(each, ast.FunctionDef) and each.name == name]
    return ast.get_docstring(functions[0]) or ""


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
