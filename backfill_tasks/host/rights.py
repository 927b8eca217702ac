"""What a backfill needs of the host's database before it can begin: its tables, and this role's rights on them."""

from sqlalchemy import Connection, text

from backfill_tasks.engine.backfill import Lack
from backfill_tasks.host import sql


def lacking(connection: Connection, schema: str, table: str, rights: str) -> Lack | None:
    """What is in the way of using a table with these rights, as GRANT lists them; None: nothing."""
    host = sql.quoted(schema)
    name = f'{host}."{table}"'
    if (
        connection.execute(
            text("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = :name"),
            {"name": schema},
        ).scalar()
        is False
    ):
        grant = f"GRANT USAGE ON SCHEMA {host} TO {_role(connection)}"
        return Lack(f"this role may not use schema {host}", f"have a DBA run {grant}")
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is None:
        return Lack(
            f"there is no table {name}",
            "DATABASE_URL must lead to the host's database, its schema parameter to the host's schema",
        )
    for right in rights.split(", "):
        statement = text("SELECT has_table_privilege(:name, :right)")
        if not connection.execute(statement, {"name": name, "right": right}).scalar_one():
            grant = f"GRANT {rights} ON {name} TO {_role(connection)}"
            return Lack(f"this role may not {right} {name}", f"have a DBA run {grant}")
    return None


def _role(connection: Connection) -> str:
    """This connection's role, as it is written in a statement."""
    return str(connection.execute(text("SELECT quote_ident(current_user)")).scalar_one())
