"""Every option of `backfill run --apply` does what its help says."""

import json
from datetime import timedelta

import pytest
from acceptance.commands import enqueued, start_of
from acceptance.host import Host
from harness import Backfill, Worker

RUN_KEYS = {
    "run_id", "state", "mode", "parameters", "counts", "pages", "lanes",
    "started_at", "finished_at", "seconds", "leads_per_second",
}  # fmt: skip
LANE_KEYS = {"number", "bounds", "cursor", "state", "counts"}
COUNTS = {"read", "inserted", "requeued", "refreshed", "in_flight", "disqualified", "quarantined"}
PASSED_OVER = {"already_scored", "no_inbound"}


def test_run_until_done_gives_every_unscored_lead_gets_its_job_or_score(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    done = backfill("run", "--apply", "--run-until-done")

    assert done.returncode == 0, done.stderr
    assert inhabited.changed() == inhabited.due()


def test_client_id_walks_these_workspaces_only(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    _, second, third, *_ = inhabited.workspaces()

    backfill.json("run", "--apply", "--client-id", second, "--client-id", third)

    assert inhabited.changed() == inhabited.due(workspaces=[second, third])


def test_client_id_can_be_written_as_the_old_script_wrote_it(alone: Backfill, inhabited: Host) -> None:
    first, second, *_ = inhabited.workspaces()

    counted = alone.json("run", "--clientId", first, "--clientId", second)

    assert counted["parameters"]["client_ids"] == sorted([first, second])


def test_cursor_starts_after_this_lead(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    cursor = inhabited.middle()

    backfill.json("run", "--apply", "--cursor", cursor)

    assert inhabited.changed() == inhabited.due(after=cursor)


def test_a_host_without_leads_leaves_nothing_to_do(alone: Backfill, bare_host: str) -> None:
    done = alone.set(DATABASE_URL=bare_host).json("run", "--apply")

    assert (done["state"], done["pages"]) == ("complete", 0)


def test_delay_ms_makes_the_nth_job_due_n_delays_after_the_start_whatever_its_lane_or_page(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    run = backfill.json("run", "--apply", "--delay-ms", "3000", "--lanes", "4", "--limit", "25")

    jobs = enqueued(run)
    assert inhabited.due_times(since=start_of(run)) == [
        start_of(run) + n * timedelta(milliseconds=3000) for n in range(1, jobs + 1)
    ]


def test_page_delay_ms_is_the_least_time_between_two_pages_of_a_lane(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    backfill.json("run", "--apply", "--page-delay-ms", "300", "--limit", "150")

    pauses = inhabited.column(
        "SELECT at - lag(at) OVER (PARTITION BY lane ORDER BY number) FROM backfill.page ORDER BY number"
    )
    assert all(pause >= timedelta(milliseconds=300) for pause in pauses if pause is not None)


def test_lanes_that_are_not_asked_for_are_as_many_as_the_environment_says(alone: Backfill) -> None:
    counted = alone.set(BACKFILL_LANES="3").json("run", "--limit", "100")

    assert len(counted["lanes"]) == 3


def test_detach_returns_when_the_run_is_seeded(alone: Backfill) -> None:
    run = alone.json("run", "--apply", "--detach")

    assert (run["state"], run["pages"]) == ("running", 0)


def test_a_run_that_nobody_follows_goes_on_to_its_end(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    run = backfill.json("run", "--apply", "--detach", "--page-delay-ms", "50", "--limit", "100")

    ended = backfill.json("watch", run["run_id"])

    assert ended["state"] == "complete"
    assert inhabited.changed() == inhabited.due()


@pytest.mark.parametrize("mode", ["--dry-run", "--apply"])
def test_json_is_one_object_on_standard_output_and_all_else_is_on_standard_error(
    backfill: Backfill, worker: Worker, mode: str
) -> None:
    done = backfill("run", mode, "--json")

    content = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1
    assert content.keys() >= RUN_KEYS
    assert content["counts"].keys() == (COUNTS | PASSED_OVER if mode == "--dry-run" else COUNTS)
    assert all(lane.keys() >= LANE_KEYS and lane["counts"].keys() >= COUNTS for lane in content["lanes"])


def test_the_summary_has_counts_duration_rate_every_lane_s_cursor_and_what_to_do_next_in_80_columns(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    done = backfill("run", "--apply", "--lanes", "3")

    (run,) = inhabited.column("SELECT id FROM backfill.run")
    cursors = inhabited.column("SELECT cursor FROM backfill.lane")
    assert f"{inhabited.sample.inserted}   job created" in done.stdout
    assert "duration" in done.stdout
    assert "leads/s" in done.stdout
    assert [cursor for cursor in cursors if cursor not in done.stdout] == []
    assert done.stdout.splitlines()[-1] == f"Next: backfill verify {run}"
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
