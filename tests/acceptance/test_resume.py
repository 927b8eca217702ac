"""`backfill run --resume` resumes the newest unfinished run with that run's own parameters."""

from collections.abc import Callable
from typing import Any

import pytest
from acceptance.commands import assert_refused, backfill_against, empty
from acceptance.host import Host, make_host
from harness import Backfill, Worker
from long_forms import long_except

from sandbox.servers import Redis


def test_it_does_the_rest_and_nothing_twice(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    backfill.json("run", "--apply", "--limit", "100", "--single-batch", status=4)
    batch = backfill.json("run", "--resume", "--single-batch", status=4)

    done = backfill.json("run", "--resume")

    assert (batch["pages"], batch["counts"]["read"]) == (2, 200)
    assert (done["state"], done["counts"]["read"]) == ("complete", inhabited.sample.eligible)
    assert inhabited.changed() == inhabited.due()


def test_it_takes_the_place_from_the_ledger_when_redis_was_emptied(
    backfill: Backfill, worker: Worker, inhabited: Host, broker: Redis
) -> None:
    backfill.json("run", "--apply", "--limit", "100", "--single-batch", status=4)
    empty(broker)

    done = backfill("run", "--resume")

    assert done.returncode == 0
    assert "Redis had lost the cursor of 1 lane: it was restored from the ledger." in done.stderr
    assert inhabited.changed() == inhabited.due()
    assert backfill.json("status")["counts"]["read"] == inhabited.sample.eligible


def test_it_says_nothing_of_lost_cursors_after_a_canary(backfill: Backfill, worker: Worker) -> None:
    backfill("run", "--apply", "--limit", "100", "--canary")

    done = backfill("run", "--resume")

    assert done.returncode == 0
    assert "lost" not in done.stderr
    assert "lost" not in backfill("events").stdout


@pytest.mark.long
def test_it_starts_all_lanes_again_when_redis_was_emptied_before_their_first_page(
    alone: Backfill, backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    alone.json("run", "--apply", "--detach", "--lanes", "3")

    done = backfill.json("run", "--resume")

    assert done["counts"]["read"] == inhabited.sample.eligible
    assert inhabited.changed() == inhabited.due()


def test_it_goes_on_with_a_failed_run_whose_cause_was_mended(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    inhabited.refuse_job_of(inhabited.lead_without_job(), sqlstate="42501")
    backfill.json("run", "--apply", status=1)
    inhabited.execute("DROP SCHEMA fault CASCADE")

    done = backfill.json("run", "--resume")

    assert (done["state"], done["counts"]["read"]) == ("complete", inhabited.sample.eligible)


def test_it_takes_the_newest_of_several_runs(alone: Backfill) -> None:
    alone.json("run", "--apply", "--detach")
    newer = alone.json("run", "--apply", "--detach", "--force")["run_id"]

    assert alone.json("run", "--resume", "--detach")["run_id"] == newer


def test_it_does_not_go_on_with_a_cancelled_run(alone: Backfill) -> None:
    run = alone.json("run", "--apply", "--detach")["run_id"]
    alone("cancel", run)

    done = alone("run", "--resume")

    assert_refused(done)
    assert "there is no unfinished run to resume" in done.stderr


def test_cursor_wins_over_it_with_a_note(backfill: Backfill, alone: Backfill, worker: Worker, inhabited: Host) -> None:
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
    """The command with a run that waits to be resumed, on a host that no other test changes."""
    url = make_host(make_database(), 100).url
    command = backfill_against(tmp_path_factory.mktemp("unfinished"), url, deserted_broker.url)
    command.json("run", "--apply", "--detach", "--limit", "50")
    return command


@pytest.mark.parametrize(
    "different",
    long_except(
        [
            ["--limit", "51"],
            ["--lanes", "3"],
            ["--rescore-all"],
            ["--delay-ms", "1"],
            ["--page-delay-ms", "1"],
            ["--client-id", "another"],
        ],
        0,
        5,
    ),
    ids=lambda option: option[0],
)
def test_a_different_parameter_is_refused_by_its_name(unfinished: Backfill, different: list[str]) -> None:
    before = lanes(unfinished)

    done = unfinished("run", "--resume", *different)

    assert_refused(done)
    assert different[0] in done.stderr
    assert lanes(unfinished) == before


def lanes(command: Backfill) -> list[dict[str, Any]]:
    """Return the newest run's lanes as in the ledger, without the current reason why they don't move."""
    found: list[dict[str, Any]] = command.json("runs")["runs"][0]["lanes"]
    return [{name: each[name] for name in each.keys() - {"reason", "reason_kind"}} for each in found]


def test_the_same_parameters_may_be_repeated(unfinished: Backfill) -> None:
    done = unfinished("run", "--resume", "--apply", "--limit", "50", "--delay-ms", "0", "--detach")

    assert done.returncode == 0, done.stderr


def test_a_dry_run_can_t_be_resumed(unfinished: Backfill) -> None:
    assert_refused(unfinished("run", "--resume", "--dry-run"))


def test_without_a_ledger_there_is_nothing_to_resume_but_a_script_s_file(alone: Backfill) -> None:
    done = alone("run", "--resume")

    assert_refused(done)
    assert "there is no unfinished run to resume" in done.stderr
    assert "--state-file FILE" in done.stderr
