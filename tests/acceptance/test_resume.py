"""`backfill run --resume` resumes the newest unfinished run with the run's own parameters."""

from collections.abc import Callable
from typing import Any

import pytest
from acceptance.commands import assert_refused, backfill_against, empty
from acceptance.host import Host, make_host
from harness import Backfill, Worker
from long_forms import long

from sandbox.servers import Redis


def test_resume_does_the_rest_and_nothing_twice(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    backfill.json("run", "--apply", "--limit", "100", "--single-batch", status=4)
    batch = backfill.json("run", "--resume", "--single-batch", status=4)

    done = backfill.json("run", "--resume")

    assert (batch["pages"], batch["counts"]["read"]) == (2, 200)
    assert (done["state"], done["counts"]["read"]) == ("complete", inhabited.sample.eligible)
    assert inhabited.changed() == inhabited.due()


def test_an_emptied_redis_is_restored_from_the_ledger(
    backfill: Backfill, worker: Worker, inhabited: Host, broker: Redis
) -> None:
    backfill.json("run", "--apply", "--limit", "100", "--single-batch", status=4)
    empty(broker)

    done = backfill("run", "--resume")

    assert done.returncode == 0
    assert "Redis had lost the cursor of 1 lane: it was restored from the ledger." in done.stderr
    assert inhabited.changed() == inhabited.due()
    assert backfill.json("status")["counts"]["read"] == inhabited.sample.eligible


def test_resuming_a_canary_reports_no_lost_cursors(backfill: Backfill, worker: Worker) -> None:
    backfill("run", "--apply", "--limit", "100", "--canary")

    done = backfill("run", "--resume")

    assert done.returncode == 0
    assert "lost" not in done.stderr
    assert "lost" not in backfill("events").stdout


@pytest.mark.long
def test_redis_emptied_before_the_first_page_restarts_all_lanes(
    alone: Backfill, backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    alone.json("run", "--apply", "--detach", "--lanes", "3")

    done = backfill.json("run", "--resume")

    assert done["counts"]["read"] == inhabited.sample.eligible
    assert inhabited.changed() == inhabited.due()


def test_a_failed_run_can_be_resumed_after_the_fix(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    inhabited.refuse_job_of(inhabited.lead_without_job(), sqlstate="42501")
    backfill.json("run", "--apply", status=1)
    inhabited.execute("DROP SCHEMA fault CASCADE")

    done = backfill.json("run", "--resume")

    assert (done["state"], done["counts"]["read"]) == ("complete", inhabited.sample.eligible)


def test_resume_takes_the_newest_of_several_runs(alone: Backfill) -> None:
    alone.json("run", "--apply", "--detach")
    newer = alone.json("run", "--apply", "--detach", "--force")["run_id"]

    assert alone.json("run", "--resume", "--detach")["run_id"] == newer


def test_a_cancelled_run_is_not_resumed(alone: Backfill) -> None:
    run = alone.json("run", "--apply", "--detach")["run_id"]
    alone("cancel", run)

    done = alone("run", "--resume")

    assert_refused(done)
    assert "there is no unfinished run to resume" in done.stderr


def test_cursor_overrides_resume_with_a_note(
    backfill: Backfill, alone: Backfill, worker: Worker, inhabited: Host
) -> None:
    unfinished = alone.json("run", "--apply", "--detach")["run_id"]
    cursor = inhabited.middle()

    done = backfill("run", "--apply", "--resume", "--cursor", cursor, "--force")

    assert "--resume is ignored, because --cursor is given." in done.stderr
    assert inhabited.changed() == inhabited.due(after=cursor)
    assert backfill.json("status", unfinished)["pages"] == 0


@pytest.fixture(scope="module")
def unfinished(
    make_database: Callable[..., str], deserted_broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Backfill:
    """The command with a resumable run, on a host that no other test changes."""
    url = make_host(make_database(), 100).url
    command = backfill_against(tmp_path_factory.mktemp("unfinished"), url, deserted_broker.url)
    command.json("run", "--apply", "--detach", "--limit", "50")
    return command


@pytest.mark.parametrize(
    "different",
    [
        ["--limit", "51"],
        ["--client-id", "another"],
        *long(["--lanes", "3"], ["--rescore-all"], ["--delay-ms", "1"], ["--page-delay-ms", "1"]),
    ],
    ids=lambda option: option[0],
)
def test_a_different_parameter_is_refused_by_name(unfinished: Backfill, different: list[str]) -> None:
    before = lanes(unfinished)

    done = unfinished("run", "--resume", *different)

    assert_refused(done)
    assert different[0] in done.stderr
    assert lanes(unfinished) == before


def lanes(command: Backfill) -> list[dict[str, Any]]:
    """Return the newest run's lanes in the ledger, without their current reasons."""
    found: list[dict[str, Any]] = command.json("runs")["runs"][0]["lanes"]
    return [{name: each[name] for name in each.keys() - {"reason", "reason_kind"}} for each in found]


def test_repeating_the_same_parameters_is_accepted(unfinished: Backfill) -> None:
    done = unfinished("run", "--resume", "--apply", "--limit", "50", "--delay-ms", "0", "--detach")

    assert done.returncode == 0, done.stderr


def test_a_dry_run_cannot_be_resumed(unfinished: Backfill) -> None:
    assert_refused(unfinished("run", "--resume", "--dry-run"))


def test_without_a_ledger_only_a_state_file_can_be_resumed(alone: Backfill) -> None:
    done = alone("run", "--resume")

    assert_refused(done)
    assert "there is no unfinished run to resume" in done.stderr
    assert "--state-file FILE" in done.stderr
