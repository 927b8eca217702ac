"""Options shared by several commands."""

import click

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output, the rest on standard error."
)
