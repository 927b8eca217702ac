"""The command `doctor`: check everything that a run needs."""

import click
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from backfill_tasks.cli.context import COMPLETE, FAILED, CommandContext
from backfill_tasks.cli.doctor import clocks, database, fleet, letters, plans, room, route, scoring, surroundings
from backfill_tasks.cli.doctor.finding import Check, Finding
from backfill_tasks.cli.render.text import wrapped
from backfill_tasks.engine.database import reason
from backfill_tasks.errors import BackfillError

#: If one of these is WRONG, the later checks can't run: they need what is missing.
_GATES: tuple[Check, ...] = (surroundings.settings, database.url, database.server, surroundings.redis)


_CHECKS: tuple[Check, ...] = (
    surroundings.settings,
    database.url,
    database.server,
    database.pooler,
    database.host,
    database.ledger,
    plans.page,
    database.sight,
    room.room,
    scoring.scorer,
    scoring.prompts,
    scoring.workers,
    route.drain,
    clocks.postgresql,
    surroundings.redis,
    clocks.redis,
    letters.dead,
    fleet.workers,
    fleet.leftovers,
    scoring.waiting,
)


@click.command()
@click.pass_obj
def doctor(context: CommandContext) -> int:
    """Check what a run needs, and show how to fix what is missing.

    Each finding starts with fine, look or WRONG. With "look", a run works, but read the
    advice. With "WRONG", a run would fail or wait. Changes nothing. Exits with 1 if a
    finding is WRONG.

    \b
    Example:
      backfill doctor
    """
    said: set[Finding] = set()
    for check in _CHECKS:
        findings = _found(check, context)
        for finding in findings:
            if finding not in said:  # several checks may find the same
                _say(finding)
        said.update(findings)
        if check in _GATES and any(finding.verdict == "WRONG" for finding in findings):
            break
    return FAILED if any(finding.verdict == "WRONG" for finding in said) else COMPLETE


def _say(finding: Finding) -> None:
    """Print a finding, and its advice below it."""
    click.echo(wrapped(finding.what, indent=7, first=f"{finding.verdict:<7}"))
    if finding.advice:
        click.echo(wrapped(finding.advice[0].upper() + finding.advice[1:], indent=7))


def _found(check: Check, context: CommandContext) -> list[Finding]:
    """Return what a check finds; an error that ends the check becomes its last finding."""
    findings: list[Finding] = []
    try:
        findings.extend(check(context))
    except BackfillError as error:
        findings.append(_of(str(error)))
    except DBAPIError as error:
        findings.append(Finding("WRONG", f"the database refused: {reason(error)}"))
    except RedisError as error:
        findings.append(Finding("WRONG", f"Redis refused: {error}"))
    return findings


def _of(said: str) -> Finding:
    """Return an error's text as a finding, with the fix as its advice."""
    what, separator, advice = said.partition(": have a DBA run ")
    return Finding("WRONG", what, f"have a DBA run {advice}" if separator else "")
