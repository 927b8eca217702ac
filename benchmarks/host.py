"""The host database that is measured on: filled once, copied file by file for every measurement."""

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
    """A filled host database on the server of `server_url`, which is never written to: its copies are."""

    server_url: str
    name: str
    sample: Sample

    @contextmanager
    def copy(self) -> Iterator[str]:
        """The URL of a fresh copy, which goes with the block.

        A copy of files leaves nothing to be written later, as one through the log does, so every measurement begins
        with a quiet server; it ends in a checkpoint of PostgreSQL's own.
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
    """A host database of so many leads, so many of them eligible; it goes with the block.

    Args:
        server_url: any database of the server, as a user who may create others.
        leads: how many leads.
        eligible: how many of them a run of all unscored leads reads, spread evenly.
        definition: SQL that makes the host's tables and indexes.
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
