"""Options shared by several commands."""

import click

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
