"""The commands besides `run` that show and steer runs: status, runs, watch, pause, cancel."""

import re
from collections.abc import Callable

import pytest
from acceptance.commands import assert_refused, backfill_against, enqueued, start_of
from acceptance.host import Host, make_host
from harness import Backfill, Worker

from sandbox.servers import Redis


@pytest.fixture(scope="module")
def waiting(
    make_database: Callable[..., str], deserted_broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Backfill, list[str]]:
    """The command, and the ids of two runs that no worker has started on, newest first; no test changes them."""
    url = make_host(make_database(), 100).url
    command = backfill_against(tmp_path_factory.mktemp("waiting"), url, deserted_broker.url)
    older = command.json("run", "--apply", "--detach")["run_id"]
    return command, [command.json("run", "--apply", "--detach", "--force")["run_id"], older]


@pytest.fixture
def run(alone: Backfill) -> str:
    """The id of a run that no worker has started on."""
    started: str = alone.json("run", "--apply", "--detach")["run_id"]
    return started


def test_status_is_the_object_that_the_run_ended_with(backfill: Backfill, worker: Worker) -> None:
    run = backfill.json("run", "--apply")

    assert backfill.json("status", run["run_id"]) == run


def test_status_without_an_id_is_the_newest_run_s(waiting: tuple[Backfill, list[str]]) -> None:
    command, (newest, _) = waiting

    assert command.json("status")["run_id"] == newest


def test_status_of_a_run_that_nobody_works_on_says_so(waiting: tuple[Backfill, list[str]]) -> None:
    command, (_, older) = waiting

    done = command("status", older)

    assert f"Run {older} · lead-scoring · apply · running" in done.stdout
    assert "no worker is online" in done.stdout


def test_runs_lists_them_newest_first(waiting: tuple[Backfill, list[str]]) -> None:
    command, runs = waiting

    assert [run["run_id"] for run in command.json("runs")["runs"]] == runs


def test_runs_is_a_table_with_a_line_each(waiting: tuple[Backfill, list[str]]) -> None:
    command, runs = waiting

    head, *lines = command("runs").stdout.splitlines()

    assert head.split() == ["run", "state", "duration", "read", "quarantined", "backfill"]
    assert [line.split()[:2] for line in lines] == [[run, "running"] for run in runs]
    assert [line.split()[-1] for line in lines] == ["lead-scoring"] * len(runs)


def test_runs_can_be_asked_for_the_newest_only(waiting: tuple[Backfill, list[str]]) -> None:
    command, (newest, _) = waiting

    assert [run["run_id"] for run in command.json("runs", "--most", "1")["runs"]] == [newest]


@pytest.mark.parametrize("command", ["status", "watch", "verify", "pause", "cancel"])
def test_a_run_that_does_not_exist_is_refused(waiting: tuple[Backfill, list[str]], command: str) -> None:
    done = waiting[0](command, "no-such-run")

    assert_refused(done)
    assert "`backfill runs` lists them" in done.stderr


@pytest.mark.parametrize("command", ["pause", "cancel"])
def test_an_order_that_names_no_run_is_refused(waiting: tuple[Backfill, list[str]], command: str) -> None:
    assert_refused(waiting[0](command))


def test_a_run_s_id_is_short_and_begins_with_its_time(waiting: tuple[Backfill, list[str]]) -> None:
    assert all(re.fullmatch(r"\d{6}-\d{6}-[0-9a-f]{4}", run) for run in waiting[1])


@pytest.mark.parametrize("command", ["status", "watch", "verify", "runs"])
def test_without_a_ledger_it_says_how_to_make_one(alone: Backfill, command: str) -> None:
    done = alone(command)

    assert_refused(done, status=1)
    assert "call `backfill init`" in done.stderr


def test_runs_without_any_says_how_to_start_one(alone: Backfill) -> None:
    alone("init")

    assert "`backfill run --apply` starts one" in alone("runs").stdout


def test_watch_of_a_run_that_has_ended_shows_its_summary(alone: Backfill, run: str) -> None:
    alone("cancel", run)

    done = alone("watch", run)

    assert done.returncode == 4
    assert f"Run {run} · lead-scoring · apply · cancelled" in done.stdout


def test_status_tells_what_the_host_has_made_of_the_jobs(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    run = backfill.json("run", "--apply")
    query = """SELECT id FROM "BackgroundJob" WHERE status = 'PENDING' AND "runAt" >= %(since)s ORDER BY id LIMIT 1"""
    (job,) = inhabited.column(query, since=start_of(run))
    inhabited.execute(f"""
        UPDATE "BackgroundJob" SET status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC' WHERE id = '{job}';
        UPDATE "Lead" SET "overallScore" = 3, "scoredAt" = now() AT TIME ZONE 'UTC'
        WHERE id = (SELECT "leadId" FROM "BackgroundJob" WHERE id = '{job}')
    """)

    host = backfill.json("status")["host"]

    assert host["done"] == 1
    assert host["jobs"] == {"PENDING": enqueued(run) - 1, "RUNNING": 0, "SUCCEEDED": 1, "FAILED": 0}
    assert host["per_minute"] is None


def test_status_says_of_a_lane_that_no_worker_is_online(alone: Backfill, inhabited: Host, run: str) -> None:
    inhabited.execute("UPDATE backfill.lane SET moved_at = now() - interval '5 seconds'")

    done = alone("status", run)

    shown = " ".join(done.stdout.split())
    assert "no worker is online, and its page waits in the queue. Start one: backfill worker" in shown


def test_status_says_why_pages_are_small(alone: Backfill, inhabited: Host, run: str) -> None:
    with inhabited.at_work():
        done = alone.set(BACKFILL_BUSY_LIMIT="50")("status", run)

    assert "pages of 50 at the most, one at a time: 1 session of others is at work" in " ".join(done.stdout.split())


def test_a_script_reads_why_pages_are_small(alone: Backfill, inhabited: Host, run: str) -> None:
    with inhabited.at_work():
        said = alone.set(BACKFILL_BUSY_LIMIT="50").json("status", run)["small_pages"]

    assert said == "pages of 50 at the most, one at a time: 1 session of others is at work"


def test_status_says_nothing_of_it_where_the_run_s_own_bounds_keep_pages_as_small(
    alone: Backfill, inhabited: Host
) -> None:
    run = alone.json("run", "--apply", "--detach", "--max-pending", "12")["run_id"]

    with inhabited.at_work():
        done = alone.set(BACKFILL_BUSY_LIMIT="50")("status", run)

    assert f"Run {run} · lead-scoring · apply · running" in done.stdout
    assert "at the most" not in done.stdout


def test_status_answers_where_redis_is_away_and_says_so(alone: Backfill, inhabited: Host, run: str) -> None:
    inhabited.execute("UPDATE backfill.lane SET moved_at = now() - interval '5 seconds'")

    done = alone.set(REDIS_URL="redis://127.0.0.1:1/0")("status", run)

    assert f"Run {run} · lead-scoring · apply · running" in done.stdout
    assert done.returncode == 0
    assert "Redis doesn't answer" in done.stdout


def test_pause_says_how_to_go_on(alone: Backfill, run: str) -> None:
    done = alone("pause", run)

    assert "To continue it: backfill resume" in done.stdout
    assert alone.json("status", run)["state"] == "paused"


def test_cancel_ends_a_run_for_good_and_says_so_when_it_had_ended(alone: Backfill, run: str) -> None:
    first, second = alone("cancel", run), alone("cancel", run)

    assert f"Run {run} is cancelled. Finished pages stay done." in first.stdout
    assert f"Run {run} was already cancelled." in second.stdout
