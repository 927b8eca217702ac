"""Databases in other encodings than UTF-8: every command works, whatever bytes the host's text contains."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
import pytest
from acceptance.commands import assert_refused, backfill_against
from harness import Backfill, Worker
from long_forms import long
from pgbouncer import pgbouncer
from psycopg import sql

from sandbox.host.sample import create_schema
from sandbox.servers import Servers, drop_database

#: chr(233) is "é", and in SQL_ASCII the byte E9, which isn't valid UTF-8. The database refuses the last leads' jobs.
_ODD_TEXT = """
INSERT INTO "Client" (id, name, "userId", "updatedAt") VALUES ('client-' || chr(233), 'Caf' || chr(233), 'user', now());
INSERT INTO "Lead" (id, "clientId", "sentimentTag", "updatedAt")
SELECT
  CASE n / 12 WHEN 0 THEN 'lead-' || n || chr(233) WHEN 1 THEN 'lead-' || n ELSE chr(233) || '-' || n END,
  'client-' || chr(233),
  CASE WHEN n % 5 = 0 THEN 'Blacklist' WHEN n % 3 = 0 THEN 'Caf' || chr(233) END,
  now()
FROM generate_series(1, 30) AS n;
INSERT INTO "Message" (id, body, direction, "leadId") SELECT 'message-' || id, chr(233), 'inbound', id FROM "Lead";
INSERT INTO "BackgroundJob" (
  id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "lastError", "lockedBy", "updatedAt"
)
SELECT
  id, 'LEAD_SCORING_POST_PROCESS', 'FAILED', 'lead_scoring_backfill:' || id, "clientId", id, 'message-' || id,
  'refus' || chr(233), chr(233), now()
FROM "Lead"
WHERE id LIKE 'lead-7%';
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%', 'refus' || chr(233) || ' ' || NEW."leadId" USING ERRCODE = '23514'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON "BackgroundJob" FOR EACH ROW
WHEN (starts_with(NEW."leadId", chr(233))) EXECUTE FUNCTION refuse();
"""

_MISSED = """
SELECT count(*) FROM "Lead" AS lead
WHERE "overallScore" IS NULL
  AND EXISTS (SELECT FROM "Message" WHERE "leadId" = lead.id AND direction = 'inbound')
  AND NOT EXISTS (SELECT FROM "BackgroundJob" WHERE "dedupeKey" = 'lead_scoring_backfill:' || lead.id)
"""


@dataclass(frozen=True)
class Place:
    """A database with some encoding, the command on it, and a worker."""

    encoding: str
    url: str
    backfill: Backfill

    def execute(self, script: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(script.encode())

    def number(self, query: str) -> int:
        with psycopg.connect(self.url) as connection:
            (number,) = connection.execute(query.encode()).fetchone() or (0,)
            return int(number)


@pytest.fixture(scope="module", params=["SQL_ASCII behind a pooler", *long("LATIN1 with client_encoding WIN1252")])
def place(request: pytest.FixtureRequest, server: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    encoding, _, more = request.param.partition(" ")
    name = f"backfill_test_{secrets.token_hex(4)}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE_PROVIDER libc LOCALE 'C'")
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(create.format(sql.Identifier(name), sql.Literal(encoding)))
        if "client_encoding" in more:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET client_encoding = 'WIN1252'").format(sql.Identifier(name))
            )
    url = urlsplit(server.database_url)._replace(path=f"/{name}").geturl()
    own = f"{url}?client_encoding=UTF8"
    with psycopg.connect(own) as connection:
        create_schema(connection)
    directory = tmp_path_factory.mktemp("place")
    command = backfill_against(directory, url, server.redis_url).set(BACKFILL_QUEUE=name)
    if "pooler" in more:
        with pgbouncer(url, directory, mode="transaction") as pooled:
            yield from _at_work(Place(encoding, own, command.set(DATABASE_URL=f"{pooled}?pgbouncer=true")))
    else:
        yield from _at_work(Place(encoding, own, command))
    drop_database(server.database_url, name)


def _at_work(place: Place) -> Iterator[Place]:
    place.execute(_ODD_TEXT)
    worker = Worker.start(place.backfill)
    yield place
    worker.stop()


@pytest.fixture(scope="module")
def run(place: Place) -> str:
    """The id of a run that quarantined the leads with a refused job."""
    started = place.backfill.json("run", "--apply", "--limit", "7", status=3)
    assert started["counts"]["quarantined"] > 0
    return str(started["run_id"])


def test_every_lead_except_the_refused_ones_gets_its_job(place: Place, run: str) -> None:
    quarantined = place.backfill.json("status", run)["counts"]["quarantined"]

    assert place.number(_MISSED) == quarantined


COMMANDS = {
    "doctor": 0,
    "run --limit 7": 0,
    "run message-rollups --apply --limit 7": 0,
    "status RUN": 0,
    "status RUN --json": 0,
    "watch RUN": 3,
    "watch RUN --json": 3,
    "runs": 0,
    "events RUN": 0,
    "events RUN --json": 0,
    "verify RUN": 3,
    "verify RUN --json": 3,
    "verify RUN --full": 3,
    "report RUN --output report.html": 0,
    "pressure": 0,
    "retry RUN": 3,
}


@pytest.mark.long
def test_every_command_works(place: Place, run: str) -> None:
    done = {words: place.backfill(*words.replace("RUN", run).split()) for words in COMMANDS}

    assert {words: each.returncode for words, each in done.items()} == COMMANDS, done
    assert [words for words, each in done.items() if "Traceback" in each.stderr] == []
    for words in COMMANDS:
        if "--json" in words:
            assert [json.loads(line) for line in done[words].stdout.splitlines()]


def test_a_run_resumes_from_its_state_file(place: Place) -> None:
    one = ("run", "--apply", "--single-batch", "--rescore-all", "--limit", "3", "--state-file", "state.json")
    run = place.backfill.json(*one, status=4)["run_id"]

    assert place.backfill("tune", run, "--limit", "5").returncode == 0
    done = place.backfill("run", "--resume", "--state-file", "state.json")

    assert done.returncode == 3, done.stdout + done.stderr
    assert place.backfill.json("status", run)["counts"]["read"] == 30


def test_an_unencodable_user_name_does_no_harm(place: Place) -> None:
    one = ("run", "--apply", "--single-batch", "--rescore-all", "--limit", "3")
    done = place.backfill.set(LOGNAME="山田")(*one)

    assert done.returncode == 4, done.stdout + done.stderr
    run = place.backfill.json("status")["run_id"]
    name = "<U+5C71><U+7530>" if place.encoding == "LATIN1" else "山田"
    assert f"{name}@" in place.backfill("events", run).stdout
    assert place.backfill("cancel", run).returncode == 0


def test_an_unencodable_workspace_is_refused(place: Place) -> None:
    done = place.backfill("run", "--client-id", "山田")

    assert_refused(done)
    assert "there is no workspace '山田'" in done.stderr


def test_an_unencodable_state_file_path_is_refused(place: Place) -> None:
    # A lone surrogate encodes to no byte sequence, so no database can store it.
    old = {"version": 1, "cursor": "\ud800", "runAtIndex": 0, "totals": {}}
    (place.backfill.directory / "old.json").write_text(json.dumps(old))

    done = place.backfill("run", "--resume", "--state-file", "old.json")

    assert_refused(done)


def test_an_unencodable_cursor_is_refused(place: Place) -> None:
    done = place.backfill("run", "--cursor", "山田")

    if place.encoding == "LATIN1":
        assert_refused(done)
        assert "'山田'" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_redis_preserves_every_byte_of_a_cursor(place: Place) -> None:
    """Each page ends at a different id, so a corrupted cursor would make a lane repeat or skip a lead."""
    done = place.backfill.json("run", "--apply", "--rescore-all", "--limit", "1", "--lanes", "2", status=3)

    assert (done["counts"]["read"], done["pages"]) == (30, 30)
