"""The host works on the very pages in flight: no lead is skipped, and no row of the host's is damaged."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from faults.stage import MakeStage, Stage
from harness import wait_for

# What happens to a lead during the run, derived from its id.
CALM, WORKED, TOUCHED, DELETED = range(4)
ROLE = "(hashtext(lead.id) & 3)"

#: The most webhooks of each kind: fewer in all than the run takes pages to keep up with.
MOST = 150
PAUSE_SECONDS = 0.01

# Leads of a role that the lanes will reach soon or have in flight; of the WORKED, those whose job waits.
NEAR = f"""
  SELECT lead.id
  FROM backfill.lane
  CROSS JOIN LATERAL (
    SELECT id
    FROM "Lead" AS lead
    WHERE id > coalesce(lane.cursor, lane.lower_bound, '') AND id <= lane.upper_bound AND {ROLE} = %(role)s
      AND (
        %(role)s <> {WORKED}
        OR EXISTS (
          SELECT FROM "BackgroundJob" WHERE "dedupeKey" = 'lead_scoring_backfill:' || lead.id AND status = 'PENDING'
        )
      )
    ORDER BY id
    LIMIT 30
  ) AS lead
"""

INSERT_LEAD = """
  WITH near AS (SELECT id, "clientId" FROM "Lead" WHERE id = %(lead)s), born AS (
    INSERT INTO "Lead" (id, "clientId", "updatedAt") SELECT id || '-' || %(number)s, "clientId", now() FROM near
    RETURNING id
  )
  INSERT INTO "Message" (id, body, direction, "leadId") SELECT 'first-' || id, 'Hello', 'inbound', id FROM born
"""
INSERT_MESSAGE = """
  INSERT INTO "Message" (id, body, direction, "leadId", "sentAt")
  SELECT 'newest-' || %(number)s, 'Hello again', 'inbound', id, now() AT TIME ZONE 'UTC'
  FROM "Lead" WHERE id = %(lead)s FOR KEY SHARE
"""
DELETE_ANCHOR = """
  DELETE FROM "Message"
  WHERE id = (
    SELECT id FROM "Message" WHERE "leadId" = %(lead)s AND direction = 'inbound'
    ORDER BY "sentAt" DESC, id DESC LIMIT 1
  )
  AND (SELECT count(*) FROM "Message" WHERE "leadId" = %(lead)s AND direction = 'inbound') > 1
"""
FLIP_TAG = """
  UPDATE "Lead" SET "sentimentTag" = CASE "sentimentTag" WHEN 'Blacklist' THEN NULL ELSE 'Blacklist' END,
    "updatedAt" = now() AT TIME ZONE 'UTC'
  WHERE id = %(lead)s
"""
DELETE_LEAD = 'DELETE FROM "Lead" WHERE id = %(lead)s'
MAKE_RUNNING = """UPDATE "BackgroundJob" SET status = 'RUNNING', "lockedBy" = 'host' WHERE "dedupeKey" = %s"""
CLAIM_JOB = """
  UPDATE "BackgroundJob" SET status = 'RUNNING', "lockedAt" = now() AT TIME ZONE 'UTC', "lockedBy" = 'host',
    attempts = attempts + 1
  WHERE "dedupeKey" = 'lead_scoring_backfill:' || %(lead)s AND status = 'PENDING'
"""


def test_a_job_that_the_host_claims_under_a_waiting_page_is_left_alone(stage: Stage) -> None:
    lead = next(lead for lead in stage.owed("job") if stage.has_job(lead))
    with psycopg.connect(stage.backfill.database_url) as host:
        host.execute(MAKE_RUNNING, [f"lead_scoring_backfill:{lead}"])
        following = stage.follow()
        wait_for(stage.blocked, what="the page to wait for the job")

    run = following.end()

    assert (stage.job(lead)["status"], stage.job(lead)["lockedBy"]) == ("RUNNING", "host")
    assert run["counts"]["in_flight"] == stage.sample.in_flight + 1
    stage.assert_done_once(run, except_for=frozenset({lead}))


@pytest.mark.long
def test_a_lead_that_vanishes_under_a_waiting_page_is_no_error(stage: Stage) -> None:
    lead = next(lead for lead in stage.owed("job") if not stage.has_job(lead))
    with psycopg.connect(stage.backfill.database_url) as host:
        host.execute('DELETE FROM "Lead" WHERE id = %s', [lead])
        following = stage.follow()
        wait_for(stage.blocked, what="the page to wait for the lead")

    run = following.end()

    assert run["counts"]["read"] == stage.sample.eligible - 1
    assert run["counts"]["quarantined"] == 0
    stage.assert_done_once(run, except_for=frozenset({lead}))


@pytest.mark.long
def test_webhooks_in_the_pages_at_work_cost_no_lead_its_due(own_stage: MakeStage) -> None:
    stage = own_stage()
    stage.staff(2)

    with webhooks(stage) as host:
        run = stage.run("--limit", "25", "--page-delay-ms", "100")

    assert host.errors == []
    assert min(host.done.values()) > 0
    assert run["counts"]["quarantined"] == 0
    stage.assert_unsplit(run)
    assert wronged(stage, CALM) == []
    assert eligible(stage, TOUCHED) <= written(stage)
    assert eligible(stage, WORKED) <= written(stage) | claimed(stage)
    assert stage.rows("SELECT lead FROM audit.write GROUP BY lead HAVING count(*) > 1") == []
    assert stage.rows("SELECT FROM audit.write WHERE job_was = 'RUNNING'") == []


@dataclass
class Host:
    """What the webhooks have done, by kind, and their errors."""

    done: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


@contextmanager
def webhooks(stage: Stage) -> Iterator[Host]:
    """Make the host insert, update and delete leads, messages and jobs right where the lanes are."""
    host, stopped = Host(), threading.Event()
    kinds = {
        "lead inserted": (CALM, INSERT_LEAD),
        "message inserted": (TOUCHED, INSERT_MESSAGE),
        "anchor deleted": (TOUCHED, DELETE_ANCHOR),
        "tag changed": (TOUCHED, FLIP_TAG),
        "lead deleted": (DELETED, DELETE_LEAD),
        "job claimed": (WORKED, CLAIM_JOB),
    }
    threads = [
        threading.Thread(target=_hammer, args=(stage, host, stopped, name, *kind)) for name, kind in kinds.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield host
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _hammer(stage: Stage, host: Host, stopped: threading.Event, name: str, role: int, statement: str) -> None:
    host.done[name] = 0
    with psycopg.connect(stage.backfill.database_url, autocommit=True) as connection:
        while host.done[name] < MOST and not stopped.wait(PAUSE_SECONDS):
            near = connection.execute(NEAR.encode(), {"role": role}).fetchall()
            if not near:
                continue
            try:
                (lead,) = secrets.choice(near)
                done = connection.execute(statement.encode(), {"lead": lead, "number": secrets.token_hex(8)})
                host.done[name] += done.rowcount
            except psycopg.OperationalError as error:
                host.errors.append(f"{name}: {error}")


def wronged(stage: Stage, role: int) -> list[dict[str, Any]]:
    return stage.rows(f"SELECT * FROM audit.wronged AS lead WHERE (hashtext(lead.lead) & 3) = {role}")


def eligible(stage: Stage, role: int) -> set[str]:
    """Return the leads of a role to which the run owed something at its start, whatever their tag."""
    rows = stage.rows(
        f"SELECT lead FROM audit.owed WHERE what <> 'nothing' AND (hashtext(lead) & 3) = {role}"
        " AND NOT EXISTS (SELECT FROM audit.job WHERE \"leadId\" = lead AND status = 'RUNNING')"
    )
    return {row["lead"] for row in rows}


def written(stage: Stage) -> set[str]:
    """Return the leads to which the run gave a job or a score."""
    return {row["lead"] for row in stage.rows("SELECT lead FROM audit.write")}


def claimed(stage: Stage) -> set[str]:
    """Return the leads whose job the host's runner has claimed."""
    return {row["leadId"] for row in stage.rows('SELECT "leadId" FROM "BackgroundJob" WHERE "lockedBy" = \'host\'')}
