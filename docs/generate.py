"""Writes the pages of docs/reference that are derived from the code: commands, options and settings.

    python docs/generate.py

`tests/unit/test_docs.py` fails if a page is out of date.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from backfill_tasks.cli.main import backfill
from backfill_tasks.cli.run_options import OPTIONS
from backfill_tasks.settings import VARIABLES

FOLDER = Path(__file__).parent / "reference"
#: The width of the help in a terminal.
_WIDTH = 80

_COMMANDS = """# Commands

What `--help` prints, of every command: made by `make reference`, not by hand.
Every command that has a RUN takes its id from `backfill runs`.

Exit status of every command: 0 all went well (of `run`, `watch`: complete), 1 failed, 2 wrong usage or settings,
3 complete but leads are quarantined, 4 not complete (paused, cancelled, detached, stopped before anything was started).
"""

_SETTINGS = """# Settings

From the environment, and from a file `.env` in the working directory; the environment wins. Made by `make reference`
out of the code. `backfill config` lists them as they are set, and from where; a value that can't be read, and a
`BACKFILL_` name that is nobody's, is refused and never guessed at.

Workers, beat, Flower and the command need the same `REDIS_URL` and `BACKFILL_QUEUE`; all but Flower need
`DATABASE_URL`. A worker reads its settings when it starts: restart it after a change. A run keeps the pace that it was
started with: `backfill tune` changes that.
"""


_OPTIONS = """# Options of a run

Made by `make reference` out of the declarations. On the command line, an option is the flag; the old script's
camelCase works too (`--maxPending`). In Python it is a keyword argument of `Client.plan` and `Client.start`. In JSON,
in the ledger and in checkpoint files it is a field. `none` (in Python: `None`) takes a bound away.

`backfill tune` and `Client.tune` change the tunable ones while a run goes on.
"""


def pages() -> dict[str, str]:
    """Return the text of every generated page, by file name."""
    return {
        "commands.md": "\n".join(_commands()),
        "options.md": "\n".join(_options()),
        "settings.md": "\n".join(_settings()),
    }


def _options() -> Iterator[str]:
    yield _OPTIONS
    yield "| flag | name | values | default | tunable | what it does |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for option in OPTIONS.values():
        default = f"`{option.shown}`" + (f", or `{option.variable}`" if option.variable else "")
        tunable = "yes" if option.tunable else ""
        values = f"{option.kind.values} | {default} | {tunable}"
        yield f"| `{option.on_command_line}` | `{option.name}` | {values} | {option.help} |"
    yield ""


def _commands() -> Iterator[str]:
    yield _COMMANDS
    root = click.Context(backfill, info_name="backfill", terminal_width=_WIDTH, **backfill.context_settings)
    yield from _command("backfill", backfill.get_help(root))
    for name in backfill.list_commands(root):
        command = backfill.get_command(root, name)
        assert command is not None  # noqa: S101  it is in the list
        context = click.Context(command, root, info_name=name)
        yield from _command(name, command.get_help(context))


def _command(name: str, said: str) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"```text\n{said}\n```\n"


def _settings() -> Iterator[str]:
    yield _SETTINGS
    yield "| variable | default | meaning |"
    yield "| --- | --- | --- |"
    for variable in VARIABLES:
        default = f"`{variable.default}`" if variable.default else "(must be set)" if variable.default is None else ""
        yield f"| `{variable.name}` | {default} | {variable.meaning} |"
    yield ""


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
