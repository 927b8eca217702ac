"""The command `doctor`: whether everything is there that a run needs."""

import click
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from backfill_tasks.cli import render
from backfill_tasks.cli.context import COMPLETE, FAILED, Session
from backfill_tasks.cli.doctor import clocks, database, fleet, letters, plans, room, surroundings
from backfill_tasks.cli.doctor.finding import Check, Finding
from backfill_tasks.engine.database import reason
from backfill_tasks.errors import BackfillError

#: Behind one of these that is wrong nothing can be asked: it needs what has just been found to be missing.
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
    clocks.postgresql,
    surroundings.redis,
    clocks.redis,
    letters.dead,
    fleet.workers,
    fleet.leftovers,
)


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Check everything that a run needs, and say what is missing and who can mend it.

    A line each: fine; look, where a run works but something should be seen to; or WRONG,
    where it would not work. Changes nothing. Exits with 1 if anything is wrong.

    \b
    Example:
      backfill doctor
    """
    session: Session = context.obj
    said: set[Finding] = set()
    for check in _CHECKS:
        findings = _found(check, session)
        for finding in findings:
            if finding not in said:  # what several checks come upon is said once
                _say(finding)
        said.update(findings)
        if check in _GATES and any(finding.verdict == "WRONG" for finding in findings):
            break
    context.exit(FAILED if any(finding.verdict == "WRONG" for finding in said) else COMPLETE)


def _say(finding: Finding) -> None:
    """A line, and the advice under it."""
    click.echo(render.wrapped(finding.what, indent=7, first=f"{finding.verdict:<7}"))
    if finding.advice:
        click.echo(render.wrapped(finding.advice[0].upper() + finding.advice[1:], indent=7))


def _found(check: Check, session: Session) -> list[Finding]:
    """All that a check finds; one that comes to an error finds that."""
    findings: list[Finding] = []
    try:
        findings.extend(check(session))
    except BackfillError as error:
        findings.append(_of(str(error)))
    except DBAPIError as error:
        findings.append(Finding("WRONG", f"the database refused: {reason(error)}"))
    except RedisError as error:
        findings.append(Finding("WRONG", f"Redis refused: {error}"))
    return findings


def _of(said: str) -> Finding:
    """An error's text as a finding: what is wrong, and under it what to do."""
    what, separator, advice = said.partition(": have a DBA run ")
    return Finding("WRONG", what, f"have a DBA run {advice}" if separator else "")
