"""The PostgreSQL role of docs/security.md has all privileges that the tool needs, and no others."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from acceptance.host import Host
from harness import Backfill, Worker
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

PAGE = Path(__file__).parents[2] / "docs/security.md"


@pytest.fixture
def role_url(alone: Backfill, inhabited: Host) -> Iterator[str]:
    """The host's database as the documented role; another role owns the ledger."""
    role, password = f"backfiller_{secrets.token_hex(4)}", secrets.token_hex(16)
    (documented,) = re.findall(
        r"^```sql\n(CREATE ROLE .*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    inhabited.execute(alone("init", "--sql").stdout)
    inhabited.execute(documented.replace("backfiller", role).replace("PASSWORD 'PASSWORD'", f"PASSWORD '{password}'"))
    parts = urlsplit(inhabited.url)
    yield parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}").geturl()
    with psycopg.connect(inhabited.url, autocommit=True) as connection:
        for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
            connection.execute(sql.SQL(statement).format(sql.Identifier(role)))


@pytest.fixture
def confined(alone: Backfill, role_url: str) -> Iterator[Backfill]:
    """The command as that role, and a worker."""
    tool = alone.set(DATABASE_URL=role_url, BACKFILL_MAX_ACTIVE_PERCENT="80")
    worker = Worker.start(tool)
    yield tool
    worker.stop()


def test_the_role_can_run_steer_and_verify(confined: Backfill, inhabited: Host) -> None:
    inhabited.refuse_job_of(inhabited.lead_without_job(), sqlstate="23514")
    dry = confined.json("run")
    run = confined.json("run", "--apply", "--single-batch", "--limit", "50", status=4)["run_id"]
    for arguments in (["tune", run, "--limit", "40"], ["pause", run], ["resume", run], ["events", run], ["doctor"]):
        done = confined(*arguments)
        assert done.returncode == 0, done.stderr + done.stdout

    ended = confined.json("watch", run, status=3)
    inhabited.execute("DROP SCHEMA fault CASCADE")
    retried = confined("retry", run)

    assert ended["counts"]["read"] == dry["counts"]["read"]
    assert retried.returncode == 0, retried.stderr
    assert confined("verify", run).returncode == 0
    assert confined("verify", run, "--full").returncode == 0
    rollups = confined("run", "message-rollups", "--apply")
    assert rollups.returncode == 0, rollups.stderr


@pytest.mark.parametrize(
    "statement",
    [
        'DELETE FROM "Lead"', 'DELETE FROM "BackgroundJob"', 'TRUNCATE "Lead"', 'UPDATE "Message" SET body = NULL',
        'UPDATE "Client" SET name = NULL', 'SELECT FROM "WorkspaceSettings"', 'INSERT INTO "Lead" DEFAULT VALUES',
        'ALTER TABLE "Lead" ADD x integer', "CREATE TABLE backfill.x ()", "CREATE TABLE public.x ()", "CREATE SCHEMA x",
        "DROP SCHEMA backfill CASCADE", "DROP TABLE backfill.run", "COPY backfill.run TO PROGRAM 'true'",
        "SELECT pg_read_file('postgresql.conf')", "SELECT rolpassword FROM pg_authid",
    ],
)  # fmt: skip
def test_the_role_can_do_nothing_else(role_url: str, statement: str) -> None:
    with psycopg.connect(role_url) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(statement.encode())
