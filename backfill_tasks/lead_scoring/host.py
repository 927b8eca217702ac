"""The host's tables in our statements."""

from functools import cache

from sqlalchemy import TextClause, text

from backfill_tasks.engine.database import load_sql


def quoted(schema: str) -> str:
    """A schema's name as it is written in a statement."""
    return '"' + schema.replace('"', '""') + '"'


def statement(sql: str, schema: str) -> TextClause:
    """A statement in which `{host}` stands for the schema of the host's tables."""
    return text(sql.format(host=quoted(schema).replace(":", "\\:")))


@cache
def file(schema: str, *names: str) -> TextClause:
    """A statement out of SQL files of this folder, one after the other; read and looked through once."""
    return statement("".join(load_sql("backfill_tasks.lead_scoring", name) for name in names), schema)
