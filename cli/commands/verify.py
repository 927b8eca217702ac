"""The command `verify`: check a run against the database."""

import json

import click

from backfill_tasks.cli import render
from backfill_tasks.cli.context import COMPLETE, FAILED, QUARANTINED, Session
from backfill_tasks.cli.decorators import as_json
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.replica import Server
from backfill_tasks.engine.verification import Verification


@click.command()
@click.argument("run", required=False)
@click.option("--full", is_flag=True, help="Read whole tables instead of indexes: slow, but sees past a damaged index.")
@click.option("--replica", "on_replica", is_flag=True, help="Read from the standby of BACKFILL_REPLICA_URL.")
@as_json
@click.pass_context
def verify(context: click.Context, run: str | None, *, full: bool, on_replica: bool, as_json: bool) -> None:
    """Check a run (default: the newest) against the database.

    Looks for leads that the run has passed and that should have a result but have none
    (a job or a score; roll-ups as new as their messages). Compares the ledger's counts
    with each other and with the rows in the database. Changes nothing.

    \b
    Exit status: 0 clean, or nothing to verify yet; 1 leads are missing, or a
    count is contradicted; 3 leads are in quarantine, a job ended without a
    score, or leads that the run has passed can't be seen: they were deleted, or
    the standby doesn't have them yet.

    \b
    Examples:
      backfill verify
      backfill verify 261124-091500-a1b2 --json
      backfill verify --full --replica
    """
    session: Session = context.obj
    found = session.client.run(run)
    backfill = session.parts.backfills[found.parameters.backfill]
    server, found, verification = _verify(session, found, full=full, on_replica=on_replica)
    if as_json:
        content = {
            "run_id": found.id,
            "state": found.state,
            "full": full,
            **server.as_json(),
            "clean": verification.clean,
            "looked_at": verification.looked_at,
            "missing": verification.missing,
            "left_alone": verification.left_alone,
            "hidden": verification.hidden,
            "arrived": verification.arrived,
            "quarantined": verification.quarantined,
            "unresolved": verification.unresolved,
            "waiting": verification.waiting,
            "counts": {name: {"ledger": said, "database": there} for name, (said, there) in verification.found.items()},
            "contradictions": verification.contradictions,
        }
        click.echo(json.dumps(content, ensure_ascii=False))
    else:
        click.echo(render.verification(backfill, found, verification, server=server))
    if verification.wrong:
        context.exit(FAILED)
    context.exit(COMPLETE if verification.clean or not found.has_passed_any else QUARANTINED)


def _verify(session: Session, run: Run, *, full: bool, on_replica: bool) -> tuple[Server, Run, Verification]:
    """Verify a run on the primary; or on the standby, as the standby's ledger has it."""
    if on_replica:
        return session.client.verify_on_standby(run.id, full=full)
    return Server(), run, session.client.verify(run.id, full=full)
