"""The command `init`: create the ledger."""

import click

from backfill_tasks.cli.context import Session
from backfill_tasks.engine import schema


@click.command()
@click.option("--sql", is_flag=True, help="Print the SQL for a DBA instead of running it.")
@click.pass_obj
def init(session: Session, *, sql: bool) -> None:
    """Create or upgrade the ledger in its own schema "backfill".

    The host's tables are not touched. Safe to repeat. `run --apply` does the same if its
    role may.

    \b
    Examples:
      backfill init
      backfill init --sql | psql "$ADMIN_URL"
    """
    if sql:
        click.echo(schema.as_sql(), nl=False)
        return
    applied = session.client.migrate()
    state = f"brought to version {schema.latest()}" if applied else f"is there already, at version {schema.latest()}"
    click.echo(f"The ledger (schema backfill in {session.parts.address}) {state}.")
