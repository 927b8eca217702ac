"""Checks PostgreSQL, the pooler before it, the host's tables, the ledger and this role's privileges."""

from collections.abc import Iterator

import psycopg

from backfill_tasks.cli.context import Session
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.engine import schema
from backfill_tasks.engine.database import parse_url
from backfill_tasks.engine.pooler import between

#: The oldest server that supports our statements.
_POSTGRESQL = 13

#: Where to set the threshold of each indicator that can answer *wait*.
_LIMITS = {
    "live queue": "A run's own: backfill tune RUN --max-live-wait SECONDS; a new run's: BACKFILL_MAX_LIVE_WAIT",
    "replication lag": "If it stays so: BACKFILL_MAX_REPLICATION_LAG",
    "lock waits": "If it stays so: BACKFILL_MAX_LOCK_WAITS",
    "active sessions": "If it stays so: BACKFILL_MAX_ACTIVE_PERCENT",
    "oldest transaction": "If it stays so: BACKFILL_MAX_TRANSACTION_AGE",
    "page duration": "It passes by itself; its limit is BACKFILL_MAX_PAGE_MS",
}


def url(session: Session) -> Iterator[Finding]:
    """Report the parameters of DATABASE_URL that mean something else here than to the host."""
    notes = parse_url(session.settings.required_database_url()).notes
    for note in notes:
        if note.warning:
            yield Finding("look", f"DATABASE_URL: {note}", "What each parameter becomes: docs/deployment.md")
    if others := ", ".join(note.parameter for note in notes if not note.warning):
        yield Finding("fine", f"DATABASE_URL: translated, or without effect here: {others} (see `backfill config`)")


def server(session: Session) -> Iterator[Finding]:
    """Check that the server is a writable primary of a supported version."""
    with session.parts.engine.begin() as connection:
        version, recovering, read_only = connection.exec_driver_sql(
            "SELECT current_setting('server_version_num')::int / 10000, pg_is_in_recovery(),"
            " current_setting('transaction_read_only')::boolean"
        ).one()
    if recovering:
        yield Finding("WRONG", f"{session.parts.address} is a standby", "DATABASE_URL must lead to the primary.")
    elif read_only:
        yield Finding(
            "WRONG",
            f"{session.parts.address} accepts no writes: default_transaction_read_only is on",
            "A hosted database sets it when its disk is full: make room, then ALTER DATABASE … or ALTER ROLE …"
            " RESET default_transaction_read_only. Pages wait until then, and go on by themselves.",
        )
    elif version < _POSTGRESQL:
        yield Finding("WRONG", f"PostgreSQL {version}", f"PostgreSQL {_POSTGRESQL} or later is needed.")
    else:
        yield Finding("fine", f"PostgreSQL {version} answers: {session.parts.address}")


def pooler(session: Session) -> Iterator[Finding]:
    """Check that DATABASE_URL says whether a transaction pooler is in front."""
    address = session.parts.address
    try:
        found = between(address)
    except psycopg.Error as error:
        why = str(error).splitlines()[0]
        yield Finding("look", "whether a pooler is in front can't be found out", f"A second connection failed: {why}")
        return
    if found == "a transaction pooler" and not address.pooled:
        yield Finding(
            "look",
            f"{found} is in front, and DATABASE_URL does not say so",
            "Each process keeps a place in it for itself, also while it rests: add pgbouncer=true to the URL.",
        )
    elif found == "nothing" and address.pooled:
        yield Finding(
            "look",
            "no pooler is in front, and DATABASE_URL says pgbouncer=true",
            "Each page opens a connection of its own, which takes time: leave it away.",
        )
    elif found == "a pooler":
        yield Finding(
            "look",
            "a pooler is in front that leaves a second connection waiting",
            "Each child of a worker needs one: give this role and database a larger pool.",
        )
    else:
        yield Finding("fine", f"{found} is in front" if found != "nothing" else "no pooler is in front")


def host(session: Session) -> Iterator[Finding]:
    """Check the host's tables and the privileges that each backfill needs; report a shared problem once."""
    for why in session.parts.backfills.broken().values():
        yield Finding("WRONG", why, "Its runs wait until it is mended; the others go on.")
    lacking: dict[tuple[str, str], list[str]] = {}
    for backfill in session.parts.backfills.usable():
        with session.parts.engine.begin() as connection:
            found = backfill.missing(connection, apply=True)
        for each in found:
            lacking.setdefault((each.what, each.fix), []).append(backfill.name)
        if not found:
            yield Finding("fine", f"{backfill.name}: its tables are there, with the rights that it takes")
    for (what, fix), names in lacking.items():
        yield Finding("WRONG", f"{', '.join(names)}: {what}", fix)


def ledger(session: Session) -> Iterator[Finding]:
    """Check that the ledger is up to date and writable, or that this role may create it."""
    with session.parts.engine.begin() as connection:
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
        advice = "`backfill run --apply` creates it, and so does `backfill init`."
        yield Finding("look", "the ledger does not exist yet", advice)
    else:
        advice = f"have a DBA run what `backfill init --sql` prints, or GRANT CREATE ON DATABASE {name} TO {role}"
        yield Finding("WRONG", "the ledger does not exist yet, and this role may not create it", advice)


def sight(session: Session) -> Iterator[Finding]:
    """Check that every indicator of pressure can be measured, and that none stops pages now."""
    found = session.client.pressure()
    for each in found:
        if each.answer == "wait":
            can = "says wait" if each.measured is not None else "can't be measured"
            setting = f". {_LIMITS.get(each.indicator, '')}" if each.measured is not None else ""
            yield Finding("WRONG", f"no page would start: {each.indicator} {can}", each.reason + setting)
    blind = [each for each in found if each.answer == "unknown"]
    for reason, limit in dict.fromkeys((each.reason, each.limit) for each in blind):
        names = ", ".join(each.indicator for each in blind if (each.reason, each.limit) == (reason, limit))
        unheeded = "" if limit else "Without it no page waits for it. "
        yield Finding("look", f"can't be measured: {names}", unheeded + reason)
    if not blind and all(each.measured is not None for each in found):
        yield Finding("fine", "every indicator of pressure can be measured")
