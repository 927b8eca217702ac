"""The command line's flags, derived from the option declarations in backfill_tasks/options.py."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from backfill_tasks.kinds import Flag, Kind, Texts
from backfill_tasks.options import Option

Command = Callable[..., Any]

#: The headings of `backfill run --help` by group, in display order.
_HEADINGS: Mapping[str, str] = {
    "essentials": "Essentials",
    "pace": "Pace",
    "compatibility": "Compatibility with the old script",
}


class Value(click.ParamType[Any]):
    """A parameter type that parses a value as its option declares."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.metavar.lower()
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value; `none` becomes None."""
        if not isinstance(value, str):
            return value
        try:
            read = self._kind.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value if isinstance(self._kind, Texts) else read


class GroupedOption(click.Option):
    """An option that belongs to a group of its command's help."""

    def __init__(self, *arguments: Any, group: str = "essentials", **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group."""
        for group, heading in _HEADINGS.items():
            options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
            found = [each for each in options if getattr(each, "group", "essentials") == group]
            with formatter.section(heading):
                formatter.write_dl([record for each in found if (record := each.get_help_record(ctx)) is not None])


def option(*names: str, group: str = "essentials", **more: Any) -> Callable[[Command], Command]:
    """Add a command's own option to a group of its help."""
    return click.option(*names, cls=GroupedOption, group=group, **more)


def declared(options: Iterable[Option], *, defaults: bool = True) -> Callable[[Command], Command]:
    """Add the flags of declared options to a command.

    Args:
        options: the declarations, in display order.
        defaults: whether the help names the default values.
    """

    def decorate(command: Command) -> Command:
        for each in reversed(list(options)):
            command = _flag(each, defaults=defaults)(command)
        return command

    return decorate


def _flag(of: Option, *, defaults: bool) -> Callable[[Command], Command]:
    text = f"{of.help.removesuffix('.')}{_default(of)}." if defaults else of.help
    if isinstance(of.kind, Flag):
        # A flag that is on by default, or that the environment or `tune` may set, needs a second name to turn it off.
        may_be_on = of.default or of.variable or of.tunable
        flags = (
            f"{of.on_command_line}/--no-{of.on_command_line.removeprefix('--')}" if may_be_on else of.on_command_line
        )
        return option(flags, of.name, group=of.group, is_flag=True, help=text)
    return option(
        of.on_command_line,
        of.name,
        group=of.group,
        type=Value(of.kind),
        metavar=of.kind.metavar,
        multiple=isinstance(of.kind, Texts),
        help=text,
    )


def _default(of: Option) -> str:
    if of.default in (None, False) and of.variable is None:
        return ""
    return f" (default: {of.shown}, or {of.variable})" if of.variable else f" (default: {of.shown})"


def given(click_context: click.Context, options: Iterable[Option]) -> dict[str, Any]:
    """Return the declared options given on the command line, by name."""
    return {each.name: _read(click_context, each) for each in options if is_given(click_context, each.name)}


def is_given(click_context: click.Context, name: str) -> bool:
    """Return whether an option is given on the command line."""
    return click_context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _read(click_context: click.Context, each: Option) -> Any:
    found = click_context.params[each.name]
    return list(found) if isinstance(each.kind, Texts) else found


def kebab_case(name: str) -> str:
    """Return an option's name in kebab case: the old script's dryRun becomes dry-run."""
    return re.sub(r"(?<=[a-z])([A-Z])", r"-\1", name).lower() if re.fullmatch(r"[a-z]+([A-Z][a-z]*)+", name) else name
