"""Commands that measure: what holds pages back just now, and whether everything is there that a run needs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import click
from redis.exceptions import RedisError

from backfill_tasks.engine import live, schema
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.indicators import PageDuration, Reading
from backfill_tasks.engine.pace import Pace
from backfill_tasks.errors import BackfillError
from cli import render
from cli.rate import rate_that_holds
from cli.session import COMPLETE, FAILED, Session

#: The oldest servers whose commands are used.
_POSTGRESQL, _REDIS = 13, (6, 2)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.pass_obj
def pressure(session: Session, *, as_json: bool) -> None:
    """Measure what holds pages back: each indicator with its value, threshold and answer.

    \b
    Example:
      backfill pressure
    """
    readings = _readings(session)
    if as_json:
        content = [
            {
                "indicator": each.indicator,
                "answer": each.answer,
                "value": each.value,
                "threshold": each.threshold,
                "reason": each.reason or None,
            }
            for each in readings
        ]
        click.echo(json.dumps({"pressure": content}, ensure_ascii=False))
        return
    rows = [(each.indicator, each.answer, each.value, each.threshold) for each in readings]
    click.echo(render.table(("indicator", "answer", "measured", "threshold"), rows))
    for each in readings:
        if each.reason:
            click.echo(f"  {each.indicator}: {each.reason}")


def _readings(session: Session) -> list[Reading]:
    """What every indicator says, those of every backfill's queue included, whether pages ask it or not."""
    parts = session.parts
    pace = Pace(max_live_wait=session.settings.max_live_wait)
    with parts.engine.begin() as connection:
        known = bool(schema.version(connection))
        begin_read_only(connection, statement_ms=session.settings.statement_timeout_ms)
        own = [each for backfill in parts.backfills.values() for each in backfill.indicators(pace)]
        general = [each for each in parts.pressure.indicators if known or not isinstance(each, PageDuration)]
        return parts.pressure.readings(connection, [*own, *general])


@dataclass(frozen=True)
class Finding:
    """What one check found. `advice`: what to do, where it is not fine."""

    verdict: Literal["fine", "look", "WRONG"]
    what: str
    advice: str = ""


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Check everything that a run needs, and say what is missing and who can mend it.

    Changes nothing. Exits with 1 if anything is wrong.

    \b
    Example:
      backfill doctor
    """
    session: Session = context.obj
    wrong = 0
    for check in (_settings, _database, _host, _ledger, _sight, _redis, _workers):
        try:
            findings = list(check(session))
        except BackfillError as error:
            findings = [Finding("WRONG", str(error))]
        for finding in findings:
            click.echo(render.wrapped(finding.what, indent=7, first=f"{finding.verdict:<7}"))
            if finding.advice:
                click.echo(render.wrapped(finding.advice, indent=7))
        wrong += sum(finding.verdict == "WRONG" for finding in findings)
        if wrong and check in (_settings, _database):
            break  # nothing behind it can be asked
    context.exit(FAILED if wrong else COMPLETE)


def _settings(session: Session) -> Iterator[Finding]:
    settings = session.settings
    settings.required_database_url()
    yield Finding("fine", "settings can be read")
    if not (settings.jobs_per_minute or settings.max_pending):
        yield Finding(
            "look",
            "jobs are neither spread nor bounded",
            "All jobs come due at once, before every webhook's: set BACKFILL_JOBS_PER_MINUTE or BACKFILL_MAX_PENDING.",
        )


def _database(session: Session) -> Iterator[Finding]:
    with session.parts.engine.begin() as connection:
        version, recovering = connection.exec_driver_sql(
            "SELECT current_setting('server_version_num')::int / 10000, pg_is_in_recovery()"
        ).one()
    if recovering:
        yield Finding("WRONG", f"{session.parts.address} is a standby", "DATABASE_URL must lead to the primary.")
    elif version < _POSTGRESQL:
        yield Finding("WRONG", f"PostgreSQL {version}", f"PostgreSQL {_POSTGRESQL} or later is needed.")
    else:
        yield Finding("fine", f"PostgreSQL {version} answers: {session.parts.address}")


def _host(session: Session) -> Iterator[Finding]:
    for backfill in session.parts.backfills.values():
        with session.parts.engine.begin() as connection:
            backfill.check_host(connection, apply=True)
        yield Finding("fine", f"{backfill.name}: the host's tables are there, with the rights that it takes")


def _ledger(session: Session) -> Iterator[Finding]:
    with session.parts.engine.begin() as connection:
        found = schema.version(connection)
        creator = connection.exec_driver_sql("SELECT has_database_privilege(current_database(), 'CREATE')").scalar()
        if found or not creator:
            schema.require(connection)
            schema.require_rights(connection)
    if not found:
        advice = "`backfill run --apply` creates it, and so does `backfill init`."
        yield Finding("look", "the ledger does not exist yet", advice)
        return
    yield Finding("fine", f"the ledger is at version {schema.latest()}")


def _sight(session: Session) -> Iterator[Finding]:
    blind = [each for each in _readings(session) if each.answer == "unknown"]
    for reason in dict.fromkeys(each.reason for each in blind):
        names = ", ".join(each.indicator for each in blind if each.reason == reason)
        yield Finding("look", f"can't be measured: {names}", f"Without it no page waits for it. {reason}")
    if not blind:
        yield Finding("fine", "every indicator of pressure can be measured")


def _redis(session: Session) -> Iterator[Finding]:
    session.require_redis()
    client = live.connect(session.settings.redis_url, patience=1)
    try:
        version = str(client.info("server")["redis_version"])
        kept, policy = (dict(client.config_get(name)).get(name) for name in ("appendonly", "maxmemory-policy"))
    except RedisError as error:  # a managed Redis often does not tell
        yield Finding("look", "Redis answers, but does not tell its settings", f"It says: {error}")
        return
    if tuple(int(part) for part in version.split(".")[:2]) < _REDIS:
        yield Finding("WRONG", f"Redis {version}", "Redis 6.2 or later is needed.")
    else:
        yield Finding("fine", f"Redis {version} answers")
    if policy not in (None, "noeviction"):
        yield Finding("look", f"Redis may evict keys: {policy}", "CONFIG SET maxmemory-policy noeviction")
    if kept == "no":
        yield Finding(
            "look",
            "Redis keeps nothing over a restart",
            "Nothing is lost for good, the ledger has it all; but lanes stand for a minute. CONFIG SET appendonly yes",
        )


def _workers(session: Session) -> Iterator[Finding]:
    from backfill_tasks.fleet import is_any_online  # noqa: PLC0415  Celery takes half a second to import

    if is_any_online():
        yield Finding("fine", f"a worker is online; the rate of all together is {rate_that_holds(session)}")
    else:
        yield Finding("look", "no worker is online", "Start one: celery -A backfill_tasks worker")
