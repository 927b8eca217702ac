"""The campaign's oracle finds skipped leads, even if the host changed them meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from harness import Backfill

Connection = psycopg.Connection[tuple[str, ...]]

CHAOS = Path(__file__).parents[2] / "chaos"

#: A complete run whose only page passed every lead; its time is an hour from now.
RUN = """
INSERT INTO backfill.run (id, backfill, state, parameters, started_by) VALUES ('run', 'x', 'complete', '{}', 'test');
INSERT INTO backfill.lane (run_id, number, upper_bound, cursor, page, state)
SELECT 'run', 1, max(id), max(id), 1, 'done' FROM "Lead";
INSERT INTO backfill.page (run_id, lane, number, generation, cursor, counts, at, seconds)
SELECT 'run', 1, 1, 1, max(id), '{}', now() + interval '1 hour', 1 FROM "Lead";
"""


@pytest.fixture
def connection(backfill: Backfill) -> Iterator[Connection]:
    """The host's database with the auditor and the ledger of a complete run that wrote nothing."""
    assert backfill("init").returncode == 0
    with psycopg.connect(backfill.database_url, autocommit=True) as opened:
        opened.execute((CHAOS / "audit.sql").read_bytes())
        opened.execute(RUN.encode())
        yield opened


def skipped(connection: Connection) -> set[str]:
    """Return the leads that the oracle reports as skipped."""
    found = connection.execute((CHAOS / "oracle.sql").read_bytes()).fetchall()
    return {detail.split()[0] for rule, detail in found if rule == "skipped"}


def owed(connection: Connection) -> list[str]:
    """Return the leads that are owed a job."""
    found = connection.execute("SELECT lead FROM audit.owed WHERE what = 'job' ORDER BY lead").fetchall()
    return [lead for (lead,) in found]


def test_every_lead_that_was_owed_something_and_got_nothing_was_skipped(connection: Connection) -> None:
    count = connection.execute("SELECT count(*) FROM audit.owed WHERE what <> 'nothing'").fetchone()

    assert count == (len(skipped(connection)),)


def test_a_lead_that_got_a_message_long_before_its_page_was_skipped(connection: Connection) -> None:
    lead = owed(connection)[0]
    connection.execute(
        'INSERT INTO "Message" (id, body, direction, "leadId", "sentAt") VALUES (%s, %s, %s, %s, now())',
        ("new", "Hello", "inbound", lead),
    )

    assert lead in skipped(connection)


def test_a_lead_that_arrived_long_before_its_page_was_skipped(connection: Connection) -> None:
    neighbour = owed(connection)[0]
    lead = f"{neighbour}-new"
    connection.execute(
        'INSERT INTO "Lead" (id, "clientId", "updatedAt") SELECT %s, "clientId", now() FROM "Lead" WHERE id = %s',
        (lead, neighbour),
    )
    connection.execute(
        'INSERT INTO "Message" (id, body, direction, "leadId", "sentAt") VALUES (%s, %s, %s, %s, now())',
        ("first", "Hello", "inbound", lead),
    )

    assert lead in skipped(connection)


def test_a_lead_that_the_host_scored_or_deleted_before_its_page_was_not_skipped(connection: Connection) -> None:
    scored, deleted = owed(connection)[:2]
    connection.execute('UPDATE "Lead" SET "overallScore" = 2 WHERE id = %s', (scored,))
    connection.execute('DELETE FROM "Lead" WHERE id = %s', (deleted,))

    assert skipped(connection).isdisjoint({scored, deleted})


def test_a_lead_that_was_scored_for_a_moment_while_its_page_was_at_work_was_not_skipped(connection: Connection) -> None:
    lead = owed(connection)[0]
    connection.execute("UPDATE backfill.page SET at = now()")
    connection.execute('UPDATE "Lead" SET "overallScore" = 2 WHERE id = %s', (lead,))
    connection.execute('UPDATE "Lead" SET "overallScore" = NULL WHERE id = %s', (lead,))

    assert lead not in skipped(connection)


def test_a_write_to_a_lead_that_was_owed_nothing_had_no_cause(connection: Connection) -> None:
    (lead,) = connection.execute("SELECT lead FROM audit.owed WHERE what = 'nothing' LIMIT 1").fetchone() or ("",)
    connection.execute("INSERT INTO audit.write VALUES (%s, 'NONE')", (lead,))

    found = connection.execute((CHAOS / "oracle.sql").read_bytes()).fetchall()

    assert ("written without cause", f"{lead} got a job and was owed nothing") in found
