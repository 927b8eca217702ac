"""The campaign's oracle finds skipped leads, even if the host has changed them since."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from harness import Backfill

Connection = psycopg.Connection[tuple[str, ...]]

CHAOS = Path(__file__).parents[2] / "chaos"

#: A complete run whose only page, done an hour from now, passed every lead.
RUN = """
INSERT INTO backfill.run (id, backfill, state, parameters, started_by) VALUES ('run', 'x', 'complete', '{}', 'test');
INSERT INTO backfill.lane (run_id, number, upper_bound, cursor, page, state)
SELECT 'run', 1, max(id), max(id), 1, 'done' FROM "Lead";
INSERT INTO backfill.page (run_id, lane, number, generation, cursor, counts, at, seconds)
SELECT 'run', 1, 1, 1, max(id), '{}', now() + interval '1 hour', 1 FROM "Lead";
"""


@pytest.fixture
def connection(backfill: Backfill) -> Iterator[Connection]:
    """Yield a connection to a host with the auditor, and with the ledger of a complete run that wrote nothing."""
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


def test_lead_owed_work_is_skipped_if_it_got_none(connection: Connection) -> None:
    count = connection.execute("SELECT count(*) FROM audit.owed WHERE what <> 'nothing'").fetchone()

    assert count == (len(skipped(connection)),)


def test_lead_with_a_message_well_before_its_page_is_skipped(connection: Connection) -> None:
    lead = owed(connection)[0]
    connection.execute(
        'INSERT INTO "Message" (id, body, direction, "leadId", "sentAt") VALUES (%s, %s, %s, %s, now())',
        ("new", "Hello", "inbound", lead),
    )

    assert lead in skipped(connection)


def test_lead_that_arrived_well_before_its_page_is_skipped(connection: Connection) -> None:
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


def test_lead_scored_or_deleted_by_the_host_is_not_skipped(connection: Connection) -> None:
    scored, deleted = owed(connection)[:2]
    connection.execute('UPDATE "Lead" SET "overallScore" = 2 WHERE id = %s', (scored,))
    connection.execute('DELETE FROM "Lead" WHERE id = %s', (deleted,))

    assert skipped(connection).isdisjoint({scored, deleted})


def test_lead_scored_briefly_during_its_page_is_not_skipped(connection: Connection) -> None:
    lead = owed(connection)[0]
    connection.execute("UPDATE backfill.page SET at = now()")
    connection.execute('UPDATE "Lead" SET "overallScore" = 2 WHERE id = %s', (lead,))
    connection.execute('UPDATE "Lead" SET "overallScore" = NULL WHERE id = %s', (lead,))

    assert lead not in skipped(connection)


def test_write_to_a_lead_owed_nothing_has_no_cause(connection: Connection) -> None:
    (lead,) = connection.execute("SELECT lead FROM audit.owed WHERE what = 'nothing' LIMIT 1").fetchone() or ("",)
    connection.execute("INSERT INTO audit.write VALUES (%s, 'NONE')", (lead,))

    found = connection.execute((CHAOS / "oracle.sql").read_bytes()).fetchall()

    assert ("written without cause", f"{lead} got a job and was owed nothing") in found
