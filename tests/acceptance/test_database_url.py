"""DATABASE_URL: Prisma's URL works unchanged, and so does everything that libpq supports."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from acceptance.commands import backfill_against
from acceptance.host import CLASSES, Host, make_host
from harness import Backfill, Worker
from psycopg.conninfo import conninfo_to_dict
from tls import Certificate, tls_in_front_of

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


def test_config_and_doctor_say_what_became_of_prismas_parameters(alone: Backfill, inhabited: Host) -> None:
    prisma = alone.set(
        DATABASE_URL=f"{inhabited.url}?{PRISMA.replace('schema=crm&pgbouncer=true&', '')}&sslidentity=x.p12"
    )

    listed, checked = prisma("config"), prisma("doctor")

    assert listed.returncode == 0
    assert "    connection_limit: no effect here: a process holds one connection" in listed.stdout
    assert "    look: sslaccept: the connection may be unencrypted, and the server is not" in listed.stdout
    shown = " ".join(checked.stdout.split())
    assert "look DATABASE_URL: sslaccept: the connection may be unencrypted, and the server is not verified" in shown
    assert "look DATABASE_URL: sslidentity: libpq can't read PKCS#12" in shown
    unused = "these parameters are translated or unused (see `backfill config`): connection_limit, pool_timeout,"
    assert f"fine DATABASE_URL: {unused}" in shown
    lines = [line for line in (listed.stdout + checked.stdout).splitlines() if " = " not in line]
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize("command", ["config", "doctor", "run"])
def test_a_url_that_contradicts_itself_is_refused_in_one_line(alone: Backfill, inhabited: Host, command: str) -> None:
    done = alone.set(DATABASE_URL=f"{inhabited.url}?sslaccept=strict&sslmode=disable")(command)

    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode in {1, 2}
    assert said.count("DATABASE_URL: sslaccept=strict and sslmode=disable contradict each other: remove one") == 1


def test_a_whole_run_goes_through_a_connection_that_prismas_url_says_is_strict(
    make_database: Callable[..., str], deserted_broker: Redis, tmp_path: Path
) -> None:
    host, certificate = make_host(make_database(), 300), Certificate.make(tmp_path)
    port = str(conninfo_to_dict(host.url)["port"])
    with tls_in_front_of(int(port), certificate, postgresql=True) as proxy:
        url = f"{host.url.replace(f':{port}/', f':{proxy.port}/')}?sslaccept=strict"
        strict = backfill_against(tmp_path, f"{url}&sslcert={certificate.file}", deserted_broker.url)
        strict = strict.set(BACKFILL_QUEUE="strict")
        worker = Worker.start(strict)
        try:
            done, checked = strict.json("run", "--apply"), strict("doctor").stdout
        finally:
            worker.stop()
        unknown = strict.set(DATABASE_URL=url)("doctor").stdout

    assert done["state"] == "complete"
    assert "look   DATABASE_URL" not in checked
    assert "certificate verify failed; no CA that is trusted here signed" in " ".join(unknown.split())
