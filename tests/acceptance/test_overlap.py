"""Runs whose leads overlap are refused without --force; others run side by side."""

import pytest
from acceptance.commands import Follow, assert_refused
from acceptance.host import Host
from harness import PATIENCE, Backfill, Worker

APPLY = ("run", "--apply", "--detach", "--limit", "50")


@pytest.fixture
def run(alone: Backfill) -> str:
    """The id of a run of all workspaces that no worker has started on."""
    started: str = alone.json(*APPLY)["run_id"]
    return started


def test_a_second_run_is_refused_with_what_the_first_walks_and_how_to_end_it(
    alone: Backfill, run: str, inhabited: Host
) -> None:
    before = inhabited.contents()

    done = alone(*APPLY)

    assert_refused(done)
    assert f"run {run} is running and walks the same (lead-scoring, all workspaces)" in done.stderr
    assert (
        f"`backfill watch {run}` follows it, `backfill cancel {run}` ends it, or start it anyway with --force"
        in done.stderr
    )
    assert inhabited.contents() == before


def test_a_run_that_is_paused_is_gone_on_with_or_ended(alone: Backfill, run: str) -> None:
    alone("pause", run)

    done = alone(*APPLY)

    assert_refused(done)
    assert f"run {run} is paused" in done.stderr
    assert f"`backfill resume {run}` goes on with it, `backfill cancel {run}` ends it" in done.stderr


def test_a_run_that_has_failed_is_gone_on_with_or_ended(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    inhabited.refuse_job_of(inhabited.lead_without_job(), sqlstate="42501")
    failed = backfill.json("run", "--apply", status=1)["run_id"]

    done = backfill(*APPLY)

    assert_refused(done)
    assert f"run {failed} is failed" in done.stderr


def test_after_it_was_cancelled_another_starts(alone: Backfill, run: str) -> None:
    alone("cancel", run)

    assert alone.json(*APPLY)["state"] == "running"


def test_a_workspace_of_its_leads_is_named(alone: Backfill, run: str, inhabited: Host) -> None:
    client = inhabited.workspaces()[1]

    done = alone(*APPLY, "--client-id", client)

    assert_refused(done)
    assert f"(lead-scoring, workspace {client})" in done.stderr


def test_another_backfill_goes_side_by_side(alone: Backfill, run: str) -> None:
    done = alone("run", "message-rollups", *APPLY[1:])

    assert done.returncode == 0
    assert run not in done.stderr


def test_force_starts_it_with_a_note_and_the_ledger_keeps_that(alone: Backfill, run: str) -> None:
    done = alone(*APPLY, "--force")

    assert done.returncode == 0
    assert f"Note: run {run} is running and walks the same (lead-scoring, all workspaces)" in done.stderr
    (started,) = alone.json("events")["events"]
    assert (started["detail"]["force"], started["detail"]["beside"]) == (True, [run])


def test_force_is_seen_in_the_events(alone: Backfill, run: str) -> None:
    alone(*APPLY, "--force")

    shown = alone("events").stdout

    assert "force yes" in shown
    assert f"beside {run}" in shown


def test_without_it_no_event_speaks_of_force(alone: Backfill, run: str) -> None:
    assert "force" not in alone("events").stdout


def test_a_dry_run_is_never_refused(alone: Backfill, run: str, inhabited: Host) -> None:
    assert alone.json("run")["counts"]["read"] == inhabited.sample.eligible


def test_resume_goes_on_beside_a_run_that_was_forced(alone: Backfill, run: str) -> None:
    alone("pause", run)
    alone(*APPLY, "--force")

    done = alone("resume", run)

    assert done.returncode == 0


def test_force_without_apply_is_refused(alone: Backfill) -> None:
    done = alone("run", "--force")

    assert_refused(done)
    assert "--force needs --apply" in done.stderr


def test_of_several_the_newest_is_named_and_the_others_counted(alone: Backfill, run: str) -> None:
    newest = alone.json(*APPLY, "--force")["run_id"]

    done = alone(*APPLY)

    assert_refused(done)
    assert f"run {newest} is running" in done.stderr
    assert "the newest of 2 such runs" in done.stderr


def test_of_two_that_start_at_the_same_moment_one_is_refused(alone: Backfill, follow: Follow) -> None:
    alone("init")

    both = [follow(alone, *APPLY) for _ in range(2)]

    for each in both:
        each.communicate(timeout=PATIENCE)
    assert sorted(each.returncode for each in both) == [0, 2]
    assert len(alone.json("runs")["runs"]) == 1
