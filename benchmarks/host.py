"""The host database: filled once, then copied file by file for each measurement."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from sandbox.host.sample import SCHEMA, Sample, create_schema, fill
from sandbox.servers import create_database, drop_database


@dataclass(frozen=True)
class Host:
    """A filled host database on the server of `server_url`. Only its copies are written to."""

    server_url: str
    name: str
    sample: Sample

    @contextmanager
    def copy(self) -> Iterator[str]:
        """Yield the URL of a fresh copy, which is dropped with the block.

        A file copy leaves nothing to write later, unlike a copy through the log, so every measurement starts on a quiet
        server; PostgreSQL ends the copy with a checkpoint.
        """
        name = f"{self.name}_{secrets.token_hex(4)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(self.name)))
        try:
            yield urlsplit(self.server_url)._replace(path=f"/{quote(name, safe='')}").geturl()
        finally:
            drop_database(self.server_url, name)


@contextmanager
def filled(server_url: str, leads: int, *, eligible: int, definition: Path = SCHEMA) -> Iterator[Host]:
    """Yield a host database, dropped with the block.

    Args:
        server_url: any database of the server, as a user who may create databases.
        leads: how many leads it has.
        eligible: how many of them a run over all unscored leads reads, spread evenly.
        definition: SQL that creates the host's tables and indexes.
    """
    name = f"backfill_bench_{secrets.token_hex(4)}"
    url = create_database(server_url, name)
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            create_schema(connection, definition=definition)
            sample = fill(connection, leads, eligible=eligible)
        yield Host(server_url, name, sample)
    finally:
        drop_database(server_url, name)
