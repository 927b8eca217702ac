"""The ledger's schema: versioned migrations, each applied once and in order, or printed for a DBA."""

from importlib.resources import files
from textwrap import indent

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.database import is_permanent, load_sql, reason, statement
from backfill_tasks.errors import LedgerError

_FRAME = """CREATE SCHEMA IF NOT EXISTS backfill;
CREATE TABLE IF NOT EXISTS backfill.migration (
  version    integer     PRIMARY KEY,
  applied_at timestamptz NOT NULL DEFAULT now()
);
"""

#: One version as an idempotent script: it skips what has been applied already.
_ONCE = """
-- version {version}
DO $migration$
BEGIN
  IF NOT EXISTS (SELECT FROM backfill.migration WHERE version = {version}) THEN
{sql}
    INSERT INTO backfill.migration (version) VALUES ({version});
  END IF;
END
$migration$;
"""

#: The rights on the ledger's tables that a run needs.
_GRANT = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA backfill"

#: Whether there is a ledger, whether this role may read its version, and which of its tables hide rows from it.
_READABLE = """
SELECT
  quote_ident(current_user) AS role,
  has_schema_privilege(pg_namespace.oid, 'USAGE') AND has_table_privilege(pg_class.oid, 'SELECT') AS readable,
  (
    SELECT string_agg(quote_ident(relname), ', ' ORDER BY relname) FROM pg_class
    WHERE relnamespace = pg_namespace.oid AND relkind = 'r' AND row_security_active(oid)
  ) AS hidden
FROM pg_namespace
JOIN pg_class ON pg_class.relnamespace = pg_namespace.oid
WHERE nspname = 'backfill' AND relname = 'migration'
"""

#: The rights that the role of the workers and commands needs, for a DBA who creates the ledger as another role.
_GRANTS = f"""
-- The role that the backfill connects as needs this, if it is not the one that runs this script:
--   GRANT USAGE ON SCHEMA backfill TO the_role;
--   {_GRANT} TO the_role;
-- and this, where row-level security is switched on for these tables or the host's (for new ones by an event trigger):
--   ALTER ROLE the_role BYPASSRLS;
"""

#: Serializes concurrent migrations: the key of a transaction-level advisory lock ("backfill" in ASCII).
_LOCK = 0x6261636B66696C6C


def migrations() -> dict[int, str]:
    """Return every migration's SQL by version, in order."""
    folder = files("backfill_tasks.engine").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return {int(name.split("_")[0]): folder.joinpath(name).read_text(encoding="utf-8") for name in names}


def latest() -> int:
    """Return the latest version of the ledger that this package knows."""
    return max(migrations())


def as_sql() -> str:
    """Return all migrations as one idempotent psql script, for a role that may create the ledger."""
    versions = [_ONCE.format(version=number, sql=indent(sql, "    ")) for number, sql in migrations().items()]
    return "".join(["BEGIN;\n", _FRAME, *versions, _GRANTS, "COMMIT;\n"])


def version(connection: Connection) -> int:
    """Return the version of the database's ledger; 0 if there is none.

    Raises:
        LedgerError: this role may not read it, or row-level security hides rows of it.
    """
    found = connection.execute(text(_READABLE)).one_or_none()
    if found is None:
        return 0
    if not found.readable:
        raise LedgerError(
            "this role may not read the ledger: have a DBA run"
            f" GRANT USAGE ON SCHEMA backfill TO {found.role}; {_GRANT} TO {found.role}"
        )
    if found.hidden:
        raise LedgerError(
            f"row-level security hides rows of the ledger from this role ({found.hidden}):"
            f" have a DBA run ALTER ROLE {found.role} BYPASSRLS"
        )
    return int(connection.execute(text("SELECT coalesce(max(version), 0) FROM backfill.migration")).scalar_one())


def migrate(connection: Connection) -> list[int]:
    """Migrate the ledger to the latest version; return the versions that were applied, if any.

    Raises:
        LedgerError: this role lacks the rights, or the ledger is newer than this package.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    found = version(connection)
    refuse_newer(found)
    pending = {number: sql for number, sql in migrations().items() if number > found}
    try:
        if pending:
            connection.exec_driver_sql(_FRAME)
            version(connection)  # an event trigger may have hidden the new table's rows; refuse before the first INSERT
        for number, sql in pending.items():
            connection.exec_driver_sql(sql)
            version(connection)
            connection.execute(text("INSERT INTO backfill.migration (version) VALUES (:version)"), {"version": number})
    except DBAPIError as error:
        if not is_permanent(error):
            raise
        raise LedgerError(
            f"this role may not create the ledger: {reason(error)}. Have a DBA run what `backfill init --sql` prints"
        ) from None
    return list(pending)


def refuse_newer(found: int) -> None:
    """Raise LedgerError if the ledger's version is newer than this package knows."""
    if found > latest():
        raise LedgerError(
            f"the ledger is at version {found}, but this program knows version {latest()}: install the newer program"
        )


def require_rights(connection: Connection) -> None:
    """Raise LedgerError unless this role has all rights on the ledger's tables that a run needs."""
    lacking = connection.execute(statement(load_sql("backfill_tasks.engine", "sql/lacking_rights.sql"))).one()
    if lacking.tables is not None:
        raise LedgerError(
            f"this role may not write all of the ledger ({lacking.tables}): have a DBA run {_GRANT} TO {lacking.role}"
        )


def require(connection: Connection) -> None:
    """Raise LedgerError unless the ledger exists and has the version that this package knows."""
    found = version(connection)
    refuse_newer(found)
    if found < latest():
        what = f"is at version {found}, but this program needs version {latest()}" if found else "does not exist yet"
        raise LedgerError(f"the ledger {what}: run `backfill init`")
