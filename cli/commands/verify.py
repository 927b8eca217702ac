"""The command `verify`: check a run against the database."""

import json

import click

from backfill_tasks.cli.context import COMPLETE, FAILED, QUARANTINED, CommandContext
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.cli.render.verification import verification
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.replica import Server
from backfill_tasks.engine.verification import Verification


@click.command()
@click.argument("run", required=False)
@click.option(
    "--full", is_flag=True, help="Read whole tables instead of indexes: slow, but finds what a damaged index hides."
)
@click.option("--replica", "on_replica", is_flag=True, help="Read from the standby that BACKFILL_REPLICA_URL names.")
@as_json
@click.pass_obj
def verify(context: CommandContext, run: str | None, *, full: bool, on_replica: bool, as_json: bool) -> int:
    """Check a run (default: the newest) against the database.

    Finds items that the run has passed and that lack their result (lead-scoring: a job
    or a score). Compares the ledger's counts with each other and with the rows in the
    database. Says how many of the enqueued items have their result, wait for it, or
    got none, and why. Changes nothing.

    \b
    Exit status:
      0  clean, or nothing to verify yet
      1  items are missing, or a count is contradicted
      3  items are in quarantine, jobs ended without a valid result, or passed
         items are not visible: deleted, or not yet on the standby

    \b
    Examples:
      backfill verify
      backfill verify 261124-091500-a1b2 --json
      backfill verify --full --replica
    """
    found = context.client.run(run)
    backfill = context.parts.backfills[found.parameters.backfill]
    server, found, result = _verify(context, found, full=full, on_replica=on_replica)
    if as_json:
        content = {
            "run_id": found.id,
            "state": found.state,
            "full": full,
            **server.as_json(),
            "clean": result.clean,
            "looked_at": result.looked_at,
            "road": result.road.as_json() if result.road else None,
            "missing": result.missing,
            "left_alone": result.left_alone,
            "hidden": result.hidden,
            "arrived": result.arrived,
            "quarantined": result.quarantined,
            "unresolved": result.unresolved,
            "invalid": result.invalid,
            "waiting": result.waiting,
            "counts": {name: {"ledger": said, "database": there} for name, (said, there) in result.found.items()},
            "contradictions": result.contradictions,
        }
        click.echo(json.dumps(content, ensure_ascii=False))
    else:
        click.echo(verification(backfill, found, result, server=server))
    if result.wrong:
        return FAILED
    return COMPLETE if result.clean or not found.has_passed_any else QUARANTINED


def _verify(context: CommandContext, run: Run, *, full: bool, on_replica: bool) -> tuple[Server, Run, Verification]:
    """Verify a run on the primary; or on the standby, as the standby's ledger has it."""
    if on_replica:
        return context.client.verify_on_standby(run.id, full=full)
    return Server(), run, context.client.verify(run.id, full=full)
