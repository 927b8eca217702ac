"""The command `backfill` and its subcommands."""

import ast
import gc
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from itertools import pairwise
from textwrap import shorten
from typing import Any

import click

from backfill_tasks.cli import streams
from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.errors import one_line_errors
from backfill_tasks.errors import UsageError

#: The commands, in the order in which an operator needs them. Each lives in the module of its name.
_IN_ORDER = (
    "doctor", "init", "config",
    "run", "watch", "status", "why", "runs", "events", "verify", "report",
    "drain", "work",
    "pause", "resume", "tune", "rate", "retry", "cancel", "dead-letters", "pressure", "metrics",
    "worker", "beat",
)  # fmt: skip


class _Commands(click.Group):
    """The group of all commands; it imports a command only when it is called, because most need slow libraries.

    Ctrl-C and SIGTERM end a command quietly. Once a run is seeded, signals.py handles them.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's own signature
        """Return the commands' names, in the order in which an operator needs them."""
        return list(_IN_ORDER)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command and return it."""
        if cmd_name not in _IN_ORDER:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"backfill_tasks.cli.commands.{name}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that is called, then turn the garbage collector on (backfill_tasks.cli.entry)."""
        resolved = super().resolve_command(ctx, args)
        gc.freeze()
        gc.enable()
        return resolved

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        names = self.list_commands(ctx)
        width = formatter.width - max(map(len, names)) - 6
        with formatter.section("Commands"):
            formatter.write_dl([(name, _short(_docstring(name), width)) for name in names])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn Ctrl-C into click.Abort."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None


def _short(said: str, width: int) -> str:
    """Return a docstring's first paragraph, shortened to `width` characters."""
    return shorten(said.partition("\n\n")[0], width, placeholder=" ...")


def _docstring(command: str) -> str:
    """Return a command's docstring, read from its source without importing it."""
    name = command.replace("-", "_")
    module = ast.parse(files("backfill_tasks.cli.commands").joinpath(f"{name}.py").read_text(encoding="utf-8"))
    functions = [each for each in module.body if isinstance(each, ast.FunctionDef) and each.name == name]
    return ast.get_docstring(functions[0]) or ""


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(package_name="backfill", prog_name="backfill")
@click.pass_context
def backfill(click_context: click.Context) -> None:
    """Backfill a live PostgreSQL database through Celery workers, page by page.

    \b
    First:  backfill doctor          check what a run needs, and how to fix it
            backfill run             count what a run would do; changes nothing
    Then:   backfill run --apply     do it, with live progress
            backfill verify          check the result in the database

    `backfill COMMAND --help` explains a command, with examples.
    """
    click_context.obj = CommandContext()


def _require_text(words: Sequence[str]) -> None:
    """Raise UsageError for a command-line word that isn't valid UTF-8: no id in the database could match it."""
    for before, word in pairwise(words):
        if not word.isprintable() and any("\ud800" <= character <= "\udfff" for character in word):
            raise UsageError(f"the word after {before} is not UTF-8 text: type the run, the id or the path again")


def main() -> None:
    """Run the command line and end the process with its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    streams.escape()
    with one_line_errors():
        _require_text(sys.argv)
        status_code = backfill.main(standalone_mode=False)
        raise click.exceptions.Exit(status_code if isinstance(status_code, int) else 0)
