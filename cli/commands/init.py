"""The command `init`: create the ledger."""

import click

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.engine import schema


@click.command()
@click.option("--sql", is_flag=True, help="Print the SQL for a DBA, and run nothing.")
@click.pass_obj
def init(context: CommandContext, *, sql: bool) -> None:
    """Create or upgrade the ledger in its own schema "backfill".

    Leaves the host's tables alone. You can repeat it safely. `backfill run --apply` does
    the same if its role has the right.

    \b
    Examples:
      backfill init
      backfill init --sql | psql "$ADMIN_URL"
    """
    if sql:
        click.echo(schema.as_sql(), nl=False)
        return
    applied = context.client.migrate()
    state = "now" if applied else "already"
    click.echo(f"The ledger (schema backfill in {context.parts.address}) is {state} at version {schema.latest()}.")
