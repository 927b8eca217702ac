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
def file(schema: str, *paths: str) -> TextClause:
    """A statement out of SQL files, one after the other, by their paths in `backfill_tasks`; each is read once."""
    return statement("".join(load_sql("backfill_tasks.backfills", path) for path in paths), schema)
