"""`--state-file`: a checkpoint that is always readable, and from which a run resumes if all else is lost."""

import json
from datetime import timedelta
from typing import Any

from acceptance.commands import Follow, assert_refused, empty, enqueued, start_of
from acceptance.host import Host
from harness import PATIENCE, Backfill, Worker, wait_for

from sandbox.servers import Redis

FILE = "checkpoint.json"


def read(backfill: Backfill) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((backfill.directory / FILE).read_text())
    return content


def write(backfill: Backfill, content: dict[str, Any]) -> None:
    (backfill.directory / FILE).write_text(json.dumps(content))


def test_it_is_valid_json_whenever_it_is_read(backfill: Backfill, worker: Worker, follow: Follow) -> None:
    process = follow(backfill, "run", "--apply", "--limit", "10", "--state-file", FILE)
    pages: list[int] = []

    def look() -> bool:
        if (backfill.directory / FILE).exists():
            pages.append(sum(lane["page"] for lane in read(backfill)["lanes"]))
        return process.poll() is not None

    wait_for(look, what="the run to end")
    assert process.returncode == 0
    assert pages == sorted(pages)
    assert read(backfill)["state"] == "complete"


def test_it_says_where_every_lane_is_and_nothing_is_left_beside_it(backfill: Backfill, worker: Worker) -> None:
    run = backfill.json("run", "--apply", "--limit", "100", "--state-file", FILE)

    lanes = read(backfill)["lanes"]
    assert [(lane["cursor"], lane["page"], lane["state"]) for lane in lanes] == [
        (lane["cursor"], lane["pages"], lane["state"]) for lane in run["lanes"]
    ]
    assert [file.name for file in backfill.directory.iterdir()] == [FILE]


def test_a_file_that_can_t_be_written_any_more_does_not_stop_the_run(
    backfill: Backfill, worker: Worker, follow: Follow, inhabited: Host
) -> None:
    folder = backfill.directory / "gone"
    folder.mkdir()
    options = ("--limit", "150", "--page-delay-ms", "500", "--state-file", "gone/checkpoint.json")
    process = follow(backfill, "run", "--apply", *options)
    wait_for((folder / "checkpoint.json").exists, what="the first checkpoint")
    folder.rename(backfill.directory / "elsewhere")

    _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, errors
    assert errors.count("Note: the checkpoint can't be written to gone/checkpoint.json") == 1
    assert inhabited.changed() == inhabited.due()


def test_a_detached_run_says_that_the_file_holds_its_start_only(alone: Backfill) -> None:
    done = alone("run", "--apply", "--detach", "--state-file", FILE)

    assert f"{FILE} contains only the run's start" in done.stderr
    assert read(alone)["state"] == "running"


def test_it_goes_on_from_the_file_when_ledger_and_redis_are_lost(
    backfill: Backfill, worker: Worker, inhabited: Host, broker: Redis
) -> None:
    first = backfill.json("run", "--apply", "--limit", "100", "--single-batch", "--state-file", FILE, status=4)
    inhabited.execute("DROP SCHEMA backfill CASCADE")
    empty(broker)

    second = backfill.json("run", "--resume", "--state-file", FILE)

    assert second["parameters"] == first["parameters"]
    assert first["counts"]["read"] + second["counts"]["read"] == inhabited.sample.eligible
    assert inhabited.changed() == inhabited.due()


def test_the_ledger_wins_over_an_older_file(backfill: Backfill, worker: Worker) -> None:
    run = backfill.json("run", "--apply", "--limit", "100", "--single-batch", "--state-file", FILE, status=4)["run_id"]
    backfill.json("run", "--resume")

    done = backfill("run", "--resume", "--state-file", FILE)

    assert_refused(done)
    assert f"run {run} is complete: nothing to resume" in done.stderr


def test_a_file_that_is_missing_is_said_and_the_newest_unfinished_run_goes_on(alone: Backfill) -> None:
    run = alone.json("run", "--apply", "--detach")["run_id"]

    done = alone("run", "--resume", "--detach", "--state-file", FILE)

    assert f"There is no {FILE}: resuming the newest unfinished run." in done.stderr
    assert f"Run {run} is resumed" in done.stderr


def test_a_file_whose_lanes_are_all_done_leaves_nothing_to_do(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    backfill.json("run", "--apply", "--state-file", FILE)
    inhabited.execute("DROP SCHEMA backfill CASCADE")

    done = backfill("run", "--resume", "--state-file", FILE)

    assert_refused(done)
    assert "there is nothing to resume" in done.stderr


def test_the_old_script_s_file_goes_on_after_its_lead_and_with_its_next_job(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    cursor = inhabited.middle()
    write(backfill, {"version": 1, "cursor": cursor, "runAtIndex": 41, "totals": {"processed": 99}})

    run = backfill.json("run", "--resume", "--apply", "--delay-ms", "1000", "--state-file", FILE)

    assert inhabited.changed() == inhabited.due(after=cursor)
    assert inhabited.due_times(since=start_of(run)) == [
        start_of(run) + n * timedelta(seconds=1) for n in range(42, 42 + enqueued(run))
    ]
    assert (read(backfill)["version"], read(backfill)["run_id"]) == (2, run["run_id"])


def test_the_old_script_s_file_without_a_cursor_starts_from_the_beginning(alone: Backfill, inhabited: Host) -> None:
    write(alone, {"version": 1, "cursor": None, "runAtIndex": 0, "totals": {}})

    counted = alone.json("run", "--resume", "--state-file", FILE)

    assert counted["counts"]["read"] == inhabited.sample.eligible
