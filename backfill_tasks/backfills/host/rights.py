"""What a backfill needs in the host's database: its tables, this role's rights on them, and sight of every row."""

from sqlalchemy import Connection, text

from backfill_tasks.backfills.host import sql
from backfill_tasks.engine.contract import Missing

#: Relations that aren't tables: rows can be hidden in them, and most of them can't be locked.
_NO_TABLES = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}

_KIND = text("SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)")

_RIGHT = text("SELECT has_table_privilege(:name, :right), has_any_column_privilege(:name, :right)")


def missing(connection: Connection, schema: str, table: str, rights: str) -> Missing | None:
    """Return what prevents using a table with these rights, as GRANT lists them; None if nothing does."""
    host = sql.quoted(schema)
    name = f"{host}.{sql.quoted(table)}"
    if (
        connection.execute(
            text("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = :name"),
            {"name": schema},
        ).scalar()
        is False
    ):
        grant = f"GRANT USAGE ON SCHEMA {host} TO {_role(connection)}"
        return Missing(f"this role may not use schema {host}", f"have a DBA run {grant}")
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is None:
        return Missing(
            f"there is no table {name}",
            "DATABASE_URL must name the host's database, and its schema parameter the host's schema",
        )
    kind = _NO_TABLES.get(connection.execute(_KIND, {"name": name}).scalar_one())
    if kind is not None:
        return Missing(
            f"{name} is {kind}, which may hide rows: a run needs the host's own table",
            "DATABASE_URL must name the host's database, and its schema parameter the host's schema",
        )
    for right in rights.split(", "):
        whole, part = connection.execute(_RIGHT, {"name": name, "right": right}).one()
        if not whole:
            object_ = f"all columns of {name}" if part else name
            grant = f"GRANT {rights} ON {name} TO {_role(connection)}"
            return Missing(f"this role may not {right} {object_}", f"have a DBA run {grant}")
    # Whatever the policies say: a row that one of them hides would be skipped as if it didn't exist.
    if connection.execute(text("SELECT row_security_active(:name)"), {"name": name}).scalar_one():
        return Missing(
            f"row-level security hides rows of {name} from this role",
            f"have a DBA run ALTER ROLE {_role(connection)} BYPASSRLS",
        )
    return None


def _role(connection: Connection) -> str:
    """Return this connection's role, quoted for a statement."""
    return str(connection.execute(text("SELECT quote_ident(current_user)")).scalar_one())
