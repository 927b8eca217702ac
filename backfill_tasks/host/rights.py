"""What a backfill needs of the host's database before it can begin: its tables, and this role's rights on them."""

from sqlalchemy import Connection, text

from backfill_tasks.errors import HostError
from backfill_tasks.host import sql


def require(connection: Connection, schema: str, table: str, rights: str) -> None:
    """Raise HostError unless the table is there and this role has all these rights on it, as GRANT lists them."""
    host = sql.quoted(schema)
    name = f'{host}."{table}"'
    if (
        connection.execute(
            text("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = :name"),
            {"name": schema},
        ).scalar()
        is False
    ):
        raise HostError(
            f"this role may not use schema {host}: have a DBA run GRANT USAGE ON SCHEMA {host} TO {_role(connection)}"
        )
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is None:
        raise HostError(
            f"there is no table {name}: DATABASE_URL must lead to the host's database, its schema parameter to"
            " the host's schema"
        )
    for right in rights.split(", "):
        statement = text("SELECT has_table_privilege(:name, :right)")
        if not connection.execute(statement, {"name": name, "right": right}).scalar_one():
            raise HostError(
                f"this role may not {right} {name}: have a DBA run GRANT {rights} ON {name} TO {_role(connection)}"
            )


def _role(connection: Connection) -> str:
    """This connection's role, as it is written in a statement."""
    return str(connection.execute(text("SELECT quote_ident(current_user)")).scalar_one())
