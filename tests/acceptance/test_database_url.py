"""DATABASE_URL: Prisma's own works as it is, and so does all that libpq knows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from acceptance.commands import backfill_against
from acceptance.host import CLASSES, Host, make_host
from harness import Backfill, Worker
from psycopg.conninfo import conninfo_to_dict

from sandbox.servers import Redis

PRISMA = (
    "schema=crm&pgbouncer=true&connection_limit=1&pool_timeout=20&socket_timeout=30&statement_cache_size=0"
    "&sslaccept=accept_invalid_certs"
)


@pytest.fixture
def elsewhere(make_database: Callable[..., str], deserted_broker: Redis, tmp_path: Path) -> Iterator[Backfill]:
    """The command and a worker with Prisma's URL, for a host whose tables are in the schema crm."""
    host = make_host(make_database(), 300, schema="crm")
    command = backfill_against(tmp_path, f"{host.url}?{PRISMA}", deserted_broker.url)
    worker = Worker.start(command.set(BACKFILL_QUEUE="elsewhere"))
    yield command.set(BACKFILL_QUEUE="elsewhere")
    worker.stop()


def test_a_host_in_another_schema_is_backfilled_through_prisma_s_url(elsewhere: Backfill) -> None:
    counted = elsewhere.json("run")["counts"]

    done = elsewhere.json("run", "--apply")

    assert done["state"] == "complete"
    assert {name: done["counts"][name] for name in CLASSES} == {name: counted[name] for name in CLASSES}
    assert elsewhere.json("verify")["clean"]


def test_the_ledger_s_schema_is_its_own_whatever_the_host_s_is(alone: Backfill, inhabited: Host) -> None:
    alone.set(DATABASE_URL=f"{inhabited.url}?schema=public&connection_limit=5")("init")

    assert inhabited.has_ledger()


@pytest.mark.parametrize(
    "form",
    [
        "postgres://{user}:{password}@{host}:{port}/{dbname}",
        "postgresql://{user}:{password}@{host}:{port}/{dbname}?options=-c%20work_mem%3D8MB",
        "postgresql:///{dbname}?host={host}&port={port}&user={user}&password={password}",
        "postgresql://{user}:{password}@{host}:{port},{host}:{port}/{dbname}",
        "postgresql://{user}:{password}@/{dbname}?host={host}&port={port}&sslmode=prefer&application_name=mine",
    ],
    ids=["postgres://", "options", "nothing but a path", "two hosts", "no host"],
)
def test_libpq_s_own_forms_and_parameters_work(alone: Backfill, inhabited: Host, form: str) -> None:
    parts = {name: quote(str(value), safe="") for name, value in conninfo_to_dict(inhabited.url).items()}

    counted = alone.set(DATABASE_URL=form.format(**parts)).json("run")

    assert counted["counts"]["read"] == inhabited.sample.eligible


def test_a_password_of_strange_characters_works_percent_encoded(alone: Backfill, inhabited: Host) -> None:
    strange = "a/b?c#d@e%f:g h"
    parts = conninfo_to_dict(inhabited.url)
    with psycopg.connect(inhabited.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE strange SUPERUSER LOGIN PASSWORD '{strange}'".encode())
    try:
        url = f"postgresql://strange:{quote(strange, safe='')}@{parts['host']}:{parts['port']}/{parts['dbname']}"
        counted = alone.set(DATABASE_URL=url).json("run")
    finally:
        with psycopg.connect(inhabited.url, autocommit=True) as connection:
            connection.execute("DROP ROLE strange")

    assert counted["counts"]["read"] == inhabited.sample.eligible
