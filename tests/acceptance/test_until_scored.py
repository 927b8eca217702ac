"""`backfill watch --until-scored` follows a complete run on until no lead waits for its score."""

import pytest
from acceptance.commands import OpenTerminal
from acceptance.host import Host
from harness import Backfill, Worker

CTRL_C = "\x03"

#: The host's runner ends all jobs of the run: with a score, except those of one lead.
END_ALL = """
UPDATE "Lead" SET "overallScore" = 3, "fitScore" = 3, "intentScore" = 3, "scoredAt" = now() AT TIME ZONE 'UTC'
WHERE "overallScore" IS NULL AND id IN (SELECT "leadId" FROM "BackgroundJob" WHERE status = 'PENDING');
UPDATE "BackgroundJob" SET status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC' WHERE status = 'PENDING'
"""
TAKE_ONE_SCORE = """
UPDATE "Lead" SET "overallScore" = NULL
WHERE id = (SELECT min("leadId") FROM "BackgroundJob" WHERE "updatedAt" >= (SELECT min(at) FROM backfill.page))
"""


@pytest.fixture
def complete(backfill: Backfill, worker: Worker, inhabited: Host) -> str:
    """The id of a complete run none of whose leads is scored yet."""
    return str(backfill.json("run", "--apply", "--limit", "500")["run_id"])


def test_scored_leads_end_the_watch(backfill: Backfill, inhabited: Host, complete: str) -> None:
    inhabited.execute(END_ALL)

    done = backfill("watch", complete, "--until-scored")

    assert done.returncode == 0, done.stdout
    assert "All enqueued leads are scored." in done.stdout


def test_lead_without_a_score_is_status_3(backfill: Backfill, inhabited: Host, complete: str) -> None:
    inhabited.execute(END_ALL)
    inhabited.execute(TAKE_ONE_SCORE)

    done = backfill("watch", complete, "--until-scored")

    assert done.returncode == 3
    assert "All jobs have ended, and 1 lead got no score." in done.stdout


def test_watch_shows_both_bars_and_goes_on_while_leads_wait(
    backfill: Backfill, inhabited: Host, complete: str, open_terminal: OpenTerminal
) -> None:
    terminal = open_terminal(backfill, "watch", complete, "--until-scored")
    terminal.wait_for("scored   ░░░░")
    assert "enqueued ████████████████████████ 100%" in terminal.shown

    inhabited.execute(END_ALL)

    assert terminal.end() == 0
    assert "All enqueued leads are scored." in terminal.shown


def test_ctrl_c_says_that_the_jobs_go_on(backfill: Backfill, complete: str, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal(backfill, "watch", complete, "--until-scored")
    terminal.wait_for("still wait for their score")

    terminal.type(CTRL_C)

    assert terminal.end() == 4
    assert "The run is complete, and its jobs go on." in terminal.shown


def test_complete_run_is_not_followed_on_without_the_option(backfill: Backfill, complete: str) -> None:
    done = backfill("watch", complete)

    assert done.returncode == 0
    assert "leads still wait for their score." in done.stdout
    assert f"Next: backfill watch {complete} --until-scored" in done.stdout
