"""`backfill verify` checks a run against the database, and names leads and counts that are wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.commands import backfill_against, empty
from acceptance.host import Host
from harness import Backfill, Worker

from sandbox.servers import Redis


@pytest.fixture(scope="module")
def complete(
    shared_host: Host, broker: Redis, shared_worker: Worker, tmp_path_factory: pytest.TempPathFactory
) -> Backfill:
    """The command after a complete run, which all tests here share."""
    shared_host.restore()
    empty(broker)
    command = backfill_against(tmp_path_factory.mktemp("complete"), shared_host.url, broker.url)
    command.json("run", "--apply", "--limit", "100")
    return command


@pytest.fixture
def finished(complete: Backfill, shared_host: Host, tmp_path: Path) -> Iterator[Host]:
    """The host database after the run. A test's changes to jobs, scores or ledger are undone."""
    with shared_host.undone():
        yield shared_host


def test_a_complete_run_is_clean(complete: Backfill, finished: Host) -> None:
    done = complete("verify")

    assert done.returncode == 0
    assert "Clean: no leads are missing" in done.stdout


def test_its_object_holds_the_ledger_s_counts_against_the_database_s(complete: Backfill, finished: Host) -> None:
    verified = complete.json("verify")

    sample = finished.sample
    assert verified["counts"] == {
        "inserted": {"ledger": sample.inserted, "database": sample.inserted},
        "disqualified": {"ledger": sample.disqualified, "database": sample.disqualified},
    }


def test_a_lead_whose_job_was_deleted_is_named(complete: Backfill, finished: Host) -> None:
    lead = finished.lead_without_job()
    finished.execute(f"""DELETE FROM "BackgroundJob" WHERE "dedupeKey" = 'lead_scoring_backfill:{lead}'""")

    done = complete("verify")

    assert done.returncode == 1
    assert lead in done.stdout
    assert "NOT CLEAN." in done.stdout


def test_its_object_names_every_lead_without_a_result(complete: Backfill, finished: Host) -> None:
    deleted = finished.column(
        """
        DELETE FROM "BackgroundJob"
        WHERE starts_with("dedupeKey", 'lead_scoring_backfill:') AND "updatedAt" >= (SELECT min(at) FROM backfill.page)
        RETURNING "leadId"
        """
    )

    verified = complete.json("verify", status=1)

    assert len(deleted) > 500
    assert verified["missing"] == sorted(deleted)


@pytest.mark.parametrize("table", ["page", "lane"])
def test_a_count_that_was_made_smaller_is_found(complete: Backfill, finished: Host, table: str) -> None:
    finished.execute(
        f"UPDATE backfill.{table} SET counts = jsonb_set(counts, '{{inserted}}',"
        " to_jsonb((counts ->> 'inserted')::int - 1)) WHERE number = 1"
    )

    done = complete("verify")

    assert done.returncode == 1
    assert "WRONG: lane 1" in done.stdout


def test_jobs_that_ended_without_a_score_are_counted_with_the_remedy(complete: Backfill, finished: Host) -> None:
    failed = finished.column(
        """
        UPDATE "BackgroundJob" SET status = 'FAILED'
        WHERE id IN (SELECT min(id) FROM "BackgroundJob" WHERE starts_with("dedupeKey", 'lead_scoring_backfill:')
                     AND status = 'PENDING' AND "updatedAt" >= (SELECT min(at) FROM backfill.page))
        RETURNING "leadId"
        """
    )

    done = complete("verify")

    assert done.returncode == 3
    assert "Clean" not in done.stdout
    assert failed[0] in done.stdout
    assert "Next: backfill run --apply" in done.stdout
    verified = complete.json("verify", status=3)
    assert (verified["clean"], verified["unresolved"]["failed"]) == (False, failed)


def test_leads_in_quarantine_are_counted_with_the_remedy(complete: Backfill, finished: Host) -> None:
    finished.execute(
        """
        WITH one AS (
          UPDATE backfill.page
          SET counts = counts || jsonb_build_object('quarantined', 1, 'inserted', (counts ->> 'inserted')::int - 1)
          WHERE lane = 1 AND number = 1
          RETURNING run_id, cursor
        ), lane AS (
          UPDATE backfill.lane
          SET counts = counts || jsonb_build_object('quarantined', 1, 'inserted', (counts ->> 'inserted')::int - 1)
          WHERE number = 1
        ), job AS (
          DELETE FROM "BackgroundJob"
          WHERE "leadId" IN (
            SELECT min("leadId") FROM "BackgroundJob"
            WHERE
              "createdAt" >= (SELECT min(at AT TIME ZONE 'UTC') - interval '1 second' FROM backfill.page)
              AND starts_with("dedupeKey", 'lead_scoring_backfill:')
          )
          RETURNING "leadId"
        )
        INSERT INTO backfill.quarantine (run_id, item, lane, page, error)
        SELECT run_id, "leadId", 1, 1, 'refused' FROM one, job
        """
    )

    done = complete("verify")

    assert done.returncode == 3
    assert "Clean" not in done.stdout
    assert "Next: backfill retry " in done.stdout
