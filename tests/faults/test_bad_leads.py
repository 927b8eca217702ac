"""Leads whose rows the database refuses are quarantined with their error; all others go through."""

from typing import Any

import pytest
from faults.stage import CLASSES, Stage

REFUSED = "the host's function fault.refuse() raised an error (P0001)"


def test_a_lead_whose_job_a_trigger_refuses_is_quarantined(stage: Stage) -> None:
    bad = stage.owed("job")[70]
    refuse_jobs(stage, bad)

    run = stage.run(status=3)

    assert_quarantined(stage, run, {bad: REFUSED})


@pytest.mark.long
def test_a_lead_whose_job_breaks_a_constraint_is_quarantined(stage: Stage) -> None:
    bad = stage.owed("job")[70]
    with stage.database() as connection:
        connection.execute(
            f"""ALTER TABLE "BackgroundJob" ADD CONSTRAINT fault CHECK ("leadId" <> '{bad}') NOT VALID""".encode()
        )

    run = stage.run(status=3)

    assert_quarantined(
        stage,
        run,
        {bad: 'new row for relation "BackgroundJob" violates check constraint "fault" (23514)'},
    )


@pytest.mark.long
def test_a_disqualified_lead_whose_score_a_trigger_refuses_is_quarantined(stage: Stage) -> None:
    bad = stage.owed("score")[7]
    refuse_scores(stage, bad)

    run = stage.run(status=3)

    assert_quarantined(stage, run, {bad: REFUSED})


@pytest.mark.long
def test_several_bad_leads_are_each_quarantined(stage: Stage) -> None:
    jobs, scores = stage.owed("job"), stage.owed("score")
    bad = [jobs[0], jobs[1], jobs[60], jobs[-1], scores[0], scores[-1]]
    refuse_jobs(stage, *bad)
    refuse_scores(stage, *bad)

    run = stage.run(status=3)

    assert_quarantined(stage, run, dict.fromkeys(bad, REFUSED))


@pytest.mark.long
def test_a_page_of_nothing_but_bad_leads_is_passed(stage: Stage) -> None:
    bad = sorted(stage.owed("job") + stage.owed("score"))[:60]
    refuse_jobs(stage, *bad)
    refuse_scores(stage, *bad)

    run = stage.run(status=3)

    assert_quarantined(stage, run, dict.fromkeys(bad, REFUSED))


def refuse_jobs(stage: Stage, *leads: str) -> None:
    """Make a trigger of the host refuse every job of these leads."""
    _refuse(stage, "BackgroundJob", "leadId", leads)


def refuse_scores(stage: Stage, *leads: str) -> None:
    """Make a trigger of the host refuse every change of these leads."""
    _refuse(stage, "Lead", "id", leads)


def _refuse(stage: Stage, table: str, column: str, leads: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{lead}'" for lead in leads)
    with stage.database() as connection:
        connection.execute(
            f"""
            CREATE OR REPLACE FUNCTION fault.refuse() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN RAISE EXCEPTION 'the host refuses this row'; END $$;
            CREATE TRIGGER fault BEFORE INSERT OR UPDATE ON "{table}"
              FOR EACH ROW WHEN (NEW."{column}" IN ({listed})) EXECUTE FUNCTION fault.refuse();
            """.encode()
        )


def assert_quarantined(stage: Stage, run: dict[str, Any], errors: dict[str, str]) -> None:
    """Assert that these leads are quarantined with these errors and untouched, and that all others were done once."""
    kept = {row["item"]: row["error"] for row in stage.rows("SELECT item, error FROM backfill.quarantine")}
    assert kept == errors
    assert run["counts"]["quarantined"] == len(errors)
    assert run["counts"]["read"] == stage.sample.eligible
    assert sum(run["counts"][name] for name in CLASSES) == stage.sample.eligible - len(errors)
    assert {row["lead"] for row in stage.rows("SELECT lead FROM audit.wronged")} == set(errors)
    assert stage.rows("SELECT FROM audit.write WHERE lead = ANY (%s)", list(errors)) == []
    stage.assert_done_once(run, except_for=frozenset(errors))
