"""The command `config`: list the settings."""

import os
from textwrap import fill, indent

import click

from backfill_tasks import replica
from backfill_tasks.cli.context import COMPLETE, WRONG_USAGE
from backfill_tasks.cli.render.text import WIDTH, wrapped
from backfill_tasks.engine.database import parse_url
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.registry import KINDS
from backfill_tasks.settings import VARIABLES, environment, refuse_unknown, value, variable_of


@click.command()
def config() -> int:
    """List every setting: its value, source and meaning.

    A setting comes from the environment or from the file .env in the working directory;
    the environment wins. Exits with 2 if a setting is invalid.

    \b
    Example:
      backfill config
    """
    variables = environment()
    wrong = 0
    plugins = [variable_of(each) for each in KINDS.options().values() if each.variable is not None]
    for variable in (*VARIABLES, *plugins):
        given = variables.get(variable.name, "").strip()
        source = "environment" if os.environ.get(variable.name, "").strip() else ".env" if given else "default"
        click.echo(f"{variable.name} = {variable.shown(given)}   ({source})")
        click.echo(indent(fill(variable.meaning, WIDTH - 4), "    "))
        try:
            value(variable, variables)
            if variable.name == "DATABASE_URL" and given:
                _say_notes(given)
            if variable.name == replica.SETTING and given:
                with replica.named_in_errors():
                    _say_notes(given)
        except ConfigurationError as error:
            click.echo(f"    WRONG: {error}")
            wrong += 1
    refuse_unknown(variables)
    return WRONG_USAGE if wrong else COMPLETE


def _say_notes(url: str) -> None:
    """Print how each parameter of a database URL is used."""
    for note in parse_url(url).notes:
        mark = "look: " if note.warning else ""
        click.echo(wrapped(f"{mark}{note}", indent=6, first="    "))
