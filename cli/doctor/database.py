"""Checks PostgreSQL, the pooler before it, the host's tables, the ledger and this role's privileges."""

from collections.abc import Iterator

import psycopg

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.engine import schema
from backfill_tasks.engine.database import parse_url
from backfill_tasks.engine.pooler import between

#: The oldest server that supports our statements.
_POSTGRESQL = 13

#: Where to set the threshold of each indicator that can answer *wait*.
_LIMITS = {
    "live queue": "To raise the limit: backfill tune RUN --max-live-wait SECONDS, or BACKFILL_MAX_LIVE_WAIT",
    "replication lag": "To raise the limit: BACKFILL_MAX_REPLICATION_LAG",
    "lock waits": "To raise the limit: BACKFILL_MAX_LOCK_WAITS",
    "active sessions": "To raise the limit: BACKFILL_MAX_ACTIVE_PERCENT",
    "oldest transaction": "To raise the limit: BACKFILL_MAX_TRANSACTION_AGE",
    "page duration": "It passes by itself. To raise the limit: BACKFILL_MAX_PAGE_MS",
}


def url(context: CommandContext) -> Iterator[Finding]:
    """Report the parameters of DATABASE_URL that have another meaning here than for the host."""
    notes = parse_url(context.settings.required_database_url()).notes
    for note in notes:
        if note.warning:
            yield Finding("look", f"DATABASE_URL: {note}", "docs/deployment.md lists how each parameter is used.")
    if others := ", ".join(note.parameter for note in notes if not note.warning):
        yield Finding(
            "fine", f"DATABASE_URL: these parameters are translated or unused (see `backfill config`): {others}"
        )


def server(context: CommandContext) -> Iterator[Finding]:
    """Check that the server is a writable primary of a supported version."""
    with context.parts.engine.begin() as connection:
        version, recovering, read_only = connection.exec_driver_sql(
            "SELECT current_setting('server_version_num')::int / 10000, pg_is_in_recovery(),"
            " current_setting('transaction_read_only')::boolean"
        ).one()
    if recovering:
        yield Finding("WRONG", f"{context.parts.address} is a standby", "Point DATABASE_URL at the primary.")
    elif read_only:
        yield Finding(
            "WRONG",
            f"{context.parts.address} accepts no writes: default_transaction_read_only is on",
            "Pages wait until it does, then continue by themselves. A hosted database sets this when its disk is full:"
            " free space, then ALTER DATABASE … or ALTER ROLE … RESET default_transaction_read_only.",
        )
    elif version < _POSTGRESQL:
        yield Finding("WRONG", f"PostgreSQL {version}", f"Upgrade it to PostgreSQL {_POSTGRESQL} or later.")
    else:
        yield Finding("fine", f"PostgreSQL {version} answers: {context.parts.address}")


def pooler(context: CommandContext) -> Iterator[Finding]:
    """Check that DATABASE_URL says whether a transaction pooler is in front."""
    address = context.parts.address
    try:
        found = between(address)
    except psycopg.Error as error:
        why = str(error).splitlines()[0]
        yield Finding("look", "can't find out whether a pooler is in front", f"A second connection failed: {why}")
        return
    if found == "a transaction pooler" and not address.pooled:
        yield Finding(
            "look",
            f"{found} is in front, and DATABASE_URL lacks pgbouncer=true",
            "Each process occupies a connection of the pooler even while it is idle. Add pgbouncer=true to the URL.",
        )
    elif found == "nothing" and address.pooled:
        yield Finding(
            "look",
            "no pooler is in front, but DATABASE_URL has pgbouncer=true",
            "Each page opens its own connection, which takes time. Remove pgbouncer=true from the URL.",
        )
    elif found == "a pooler":
        yield Finding(
            "look",
            "a pooler is in front, and a second connection has to wait",
            "Each worker process needs its own connection. Give this role and database a larger pool.",
        )
    else:
        yield Finding("fine", f"{found} is in front" if found != "nothing" else "no pooler is in front")


def host(context: CommandContext) -> Iterator[Finding]:
    """Check the host's tables and the privileges that each backfill needs; report a shared problem once."""
    for why in context.parts.backfills.broken().values():
        yield Finding("WRONG", why, "Its runs wait until this is fixed. Other backfills continue.")
    lacking: dict[tuple[str, str], list[str]] = {}
    for backfill in context.parts.backfills.usable():
        with context.parts.engine.begin() as connection:
            found = backfill.missing(connection, apply=True)
        for each in found:
            lacking.setdefault((each.what, each.fix), []).append(backfill.name)
        if not found:
            yield Finding("fine", f"{backfill.name}: this role has all rights on the host's tables")
    for (what, fix), names in lacking.items():
        yield Finding("WRONG", f"{', '.join(names)}: {what}", fix)


def ledger(context: CommandContext) -> Iterator[Finding]:
    """Check that the ledger is up to date and writable, or that this role may create it."""
    with context.parts.engine.begin() as connection:
        found = schema.version(connection)
        role, name, may_create = connection.exec_driver_sql(
            "SELECT quote_ident(current_user), quote_ident(current_database()),"
            " has_database_privilege(current_database(), 'CREATE')"
        ).one()
        if found:
            schema.require(connection)
            schema.require_rights(connection)
    if found:
        yield Finding("fine", f"the ledger is at version {schema.latest()}")
    elif may_create:
        advice = "`backfill init` creates it, and so does `backfill run --apply`."
        yield Finding("look", "the ledger does not exist yet", advice)
    else:
        advice = f"Have a DBA run the output of `backfill init --sql`, or GRANT CREATE ON DATABASE {name} TO {role}"
        yield Finding("WRONG", "the ledger does not exist yet, and this role may not create it", advice)


def sight(context: CommandContext) -> Iterator[Finding]:
    """Check that every indicator of pressure can be measured, and that none stops pages now."""
    found = context.client.pressure()
    for each in found:
        if each.answer == "wait":
            can = "answers wait" if each.measured is not None else "can't be measured"
            setting = f". {_LIMITS.get(each.indicator, '')}" if each.measured is not None else ""
            yield Finding("WRONG", f"no page would start: {each.indicator} {can}", each.reason + setting)
    blind = [each for each in found if each.answer == "unknown"]
    for reason, limit in dict.fromkeys((each.reason, each.limit) for each in blind):
        names = ", ".join(each.indicator for each in blind if (each.reason, each.limit) == (reason, limit))
        unheeded = "" if limit else "Pages start without this check. "
        yield Finding("look", f"can't be measured: {names}", f"{unheeded}{reason[0].upper()}{reason[1:]}")
    if not blind and all(each.measured is not None for each in found):
        yield Finding("fine", "every indicator of pressure can be measured")
