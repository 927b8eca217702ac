"""E-mail addresses in the host's rows: no output except `retry --verbose`, which says so, repeats them."""

from collections.abc import Iterator

import psycopg
import pytest
import redis
from acceptance.exporter import Export
from acceptance.host import Host
from harness import Backfill, Worker, wait_for
from psycopg import sql

ADDRESS = "ada.lovelace@example.org"

#: Statements of a host's trigger that put an address into an error, and the report of that error.
ACCIDENTS = (
    ("RAISE EXCEPTION 'lead % is on hold', address", "the host's function fault.post_0() raised an error (P0001)"),
    (
        "RAISE EXCEPTION 'lead % is on hold', address USING ERRCODE = '23514', CONSTRAINT = 'on_hold'",
        'the host\'s function fault.post_1() raised an error: constraint "on_hold" (23514)',
    ),
    (
        "INSERT INTO fault.letter VALUES (address), (address)",
        'duplicate key value violates unique constraint "letter_pkey" (23505)',
    ),
    (
        "INSERT INTO fault.checked VALUES (address)",
        'new row for relation "checked" violates check constraint "no_at" (23514)',
    ),
    ("PERFORM address::integer", "invalid text representation (22P02)"),
)

#: The same for errors that end a lane.
FATAL_ACCIDENTS = (
    (
        "RAISE EXCEPTION '%', address USING ERRCODE = '42501'",
        "the host's function fault.post_0() raised an error (42501)",
    ),
    ("EXECUTE format('SELECT %I', address)", "the host's own code raised an error (42703)"),
)

_TABLES = """
CREATE SCHEMA fault;
CREATE TABLE fault.letter (address text PRIMARY KEY);
CREATE TABLE fault.checked (address text CONSTRAINT no_at CHECK (address NOT LIKE '%@%'));
"""

_TRIGGER = """
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE address text := {address};
BEGIN {accident}; RETURN NEW; END $$;
CREATE TRIGGER {name} BEFORE INSERT ON "BackgroundJob" FOR EACH ROW
WHEN (NEW."leadId" = {lead}) EXECUTE FUNCTION {function}()
"""


def let_happen(host: Host, *accidents: str) -> list[str]:
    """Make the host's triggers run these statements, each on one lead's job; return the leads."""
    leads = host.leads_without_job()[: len(accidents)]
    with psycopg.connect(host.url, autocommit=True) as connection:
        connection.execute(_TABLES.encode())
        for number, (lead, accident) in enumerate(zip(leads, accidents, strict=True)):
            name = f"post_{number}"
            connection.execute(
                sql.SQL(_TRIGGER).format(
                    name=sql.Identifier(name),
                    function=sql.Identifier("fault", name),
                    address=sql.Literal(ADDRESS),
                    accident=sql.SQL(accident),  # type: ignore[arg-type]  # no literal, but the test's own
                    lead=sql.Literal(lead),
                )
            )
    return leads


def ledger(host: Host) -> Iterator[str]:
    """Yield every row of the ledger as text."""
    for table in host.column(
        "SELECT relname FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'r'"
    ):
        yield from host.column(f'SELECT row::text FROM backfill."{table}" AS row')


def redis_texts(backfill: Backfill) -> Iterator[str]:
    """Yield the value of every key in Redis."""
    with redis.Redis.from_url(backfill.environment["REDIS_URL"], decode_responses=True) as client:
        readers = {"string": client.get, "hash": client.hgetall, "set": client.smembers}
        for key in client.scan_iter():
            kind = client.type(key)
            reader = readers.get(kind) or (lambda name: client.sort(name, by="nosort"))
            yield f"{key} {reader(key)}"


def everywhere(backfill: Backfill, worker: Worker, host: Host, export: Export) -> list[str]:
    """Return everything that the tool shows about its newest run, and everything that it stores."""
    shown = [
        done.stdout + done.stderr
        for arguments in (["status"], ["status", "--json"], ["events"], ["events", "--json"], ["runs"],
                          ["verify", "--json"], ["doctor"], ["report", "-o", "report.html"])
        for done in [backfill(*arguments)]
    ]  # fmt: skip
    report = (backfill.directory / "report.html").read_text(encoding="utf-8")
    return [*shown, report, export(backfill).get()[1], worker.output, *redis_texts(backfill), *ledger(host)]


@pytest.mark.long
def test_a_quarantined_leads_address_is_shown_on_request_only(
    backfill: Backfill, worker: Worker, inhabited: Host, export: Export
) -> None:
    leads = let_happen(inhabited, *(accident for accident, _ in ACCIDENTS))

    done = backfill("run", "--apply")
    run = backfill.json("status")["run_id"]
    again = backfill("retry", run)
    asked = backfill("retry", run, "--verbose")

    assert (done.returncode, again.returncode, asked.returncode) == (3, 3, 3)
    for lead, (_, told) in zip(leads, ACCIDENTS, strict=True):
        assert f"{lead} {told}" in " ".join(done.stdout.split())
        assert f"{lead} failed again: {told}" in " ".join(again.stdout.split())
    assert asked.stdout.count(ADDRESS) == len(ACCIDENTS)
    seen = [done.stdout, done.stderr, again.stdout, again.stderr, *everywhere(backfill, worker, inhabited, export)]
    assert [text for text in seen if ADDRESS in text] == []


def test_quarantine_keeps_the_names_from_the_databases_error(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    lead, _ = let_happen(inhabited, ACCIDENTS[3][0], ACCIDENTS[4][0])

    backfill("run", "--apply")

    (row,) = inhabited.rows("SELECT * FROM backfill.quarantine WHERE item = %(lead)s", lead=lead)
    named = [row[name] for name in ("sqlstate", "constraint_name", "table_name", "column_name")]
    assert named == ["23514", "no_at", "checked", None]


@pytest.mark.long
@pytest.mark.parametrize(("accident", "told"), FATAL_ACCIDENTS, ids=["raised", "in a statement of the host's"])
def test_a_failed_lanes_reason_repeats_no_address(
    backfill: Backfill, worker: Worker, inhabited: Host, export: Export, accident: str, told: str
) -> None:
    let_happen(inhabited, accident)

    done = backfill("run", "--apply")

    assert done.returncode == 1
    assert told in " ".join(done.stdout.split())
    seen = [done.stdout, done.stderr, *everywhere(backfill, worker, inhabited, export)]
    assert [text for text in seen if ADDRESS in text] == []


@pytest.mark.long
def test_a_page_waiting_for_a_retry_repeats_no_address(
    backfill: Backfill, worker: Worker, inhabited: Host, export: Export
) -> None:
    let_happen(inhabited, "RAISE EXCEPTION '%', address USING ERRCODE = '40001'")
    run = backfill.json("run", "--apply", "--detach")["run_id"]
    waits = "SELECT FROM backfill.lane WHERE reason LIKE '%%waits for a retry%%'"
    wait_for(lambda: inhabited.rows(waits), what="a page to wait for a retry")

    seen = everywhere(backfill, worker, inhabited, export)

    backfill("cancel", run)
    assert any("the host's function fault.post_0() raised an error (40001)" in text for text in seen)
    assert [text for text in seen if ADDRESS in text] == []


def test_a_migration_removes_the_reasons_of_an_older_ledger(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    backfill("run", "--apply")
    run = backfill.json("status")["run_id"]
    inhabited.execute(
        f"""
        ALTER TABLE backfill.quarantine
          DROP sqlstate, DROP constraint_name, DROP table_name, DROP column_name;
        DROP TABLE backfill.batch_request, backfill.batch, backfill.spend, backfill.scoring_slot, backfill.scoring;
        DROP TABLE backfill.drain_total, backfill.drain_call, backfill.drain, backfill.bound,
          backfill.claim;
        DELETE FROM backfill.migration WHERE version >= 5;
        INSERT INTO backfill.quarantine (run_id, item, lane, page, error) VALUES
          ('{run}', 'a', 1, 1, 'lead {ADDRESS} is on hold (P0001)'),
          ('{run}', 'b', 1, 1, 'null value in column "x" of relation "y" violates not-null constraint (23502)'),
          ('{run}', 'c', 1, 1, '{ADDRESS}');
        """
    )

    assert backfill("init").returncode == 0

    kept = inhabited.rows("SELECT item, error, sqlstate FROM backfill.quarantine ORDER BY item")
    assert [(row["item"], row["sqlstate"]) for row in kept] == [("a", "P0001"), ("b", "23502"), ("c", None)]
    assert kept[1]["error"].startswith("null value in column")
    assert [row for row in kept if ADDRESS in row["error"]] == []
