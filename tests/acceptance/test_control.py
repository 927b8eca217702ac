"""Steering a run by command: tune, pause --all, resume, retry, events, pressure."""

import pytest
from acceptance.commands import assert_refused
from acceptance.host import Host
from harness import Backfill

NO_RUN = "no-such-run"
WIDTH = 80


@pytest.fixture
def run(alone: Backfill) -> str:
    """The id of a run that no worker has started on."""
    started: str = alone.json("run", "--apply", "--detach", "--limit", "20", "--max-pending", "50")["run_id"]
    return started


def names(command: Backfill, run: str) -> list[str]:
    """Return the names of a run's events, in order."""
    return [each["event"] for each in command.json("events", run)["events"]]


class TestTune:
    def test_changes_the_pace_and_says_what_it_was(self, alone: Backfill, run: str) -> None:
        done = alone("tune", run, "--max-pending", "none", "--jobs-per-minute", "0.5", "--limit", "7")

        assert done.returncode == 0
        assert done.stdout.splitlines() == [
            f"Run {run}: limit 20 -> 7",
            f"Run {run}: jobs per minute none -> 0.5",
            f"Run {run}: max pending 50 -> none",
        ]
        parameters = alone.json("status", run)["parameters"]
        assert (parameters["limit"], parameters["max_pending"], parameters["jobs_per_minute"]) == (7, None, 0.5)

    def test_says_so_where_it_is_so_already(self, alone: Backfill, run: str) -> None:
        done = alone("tune", run, "--limit", "20")

        assert (done.returncode, done.stdout) == (0, f"Run {run} already has these values.\n")

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ([], "no change is given"),
            (["--limit", "0"], "--limit"),
            (["--limit", "none"], "--limit"),
            (["--max-pending", "0"], "--max-pending"),
            (["--jobs-per-minute", "nan"], "--jobs-per-minute"),
            (["--target-page-ms", "none"], "--target-page-ms"),
            (["--cost-per-job", "1"], "--cost-per-job"),
            (["--lanes", "4"], "--lanes"),
        ],
        ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
    )
    def test_refuses_what_makes_no_sense(
        self, alone: Backfill, run: str, inhabited: Host, options: list[str], says: str
    ) -> None:
        before = inhabited.contents()

        done = alone("tune", run, *options)

        assert_refused(done)
        assert says in done.stderr
        assert inhabited.contents() == before

    def test_refuses_a_run_that_has_ended(self, alone: Backfill, run: str) -> None:
        alone("cancel", run)

        done = alone("tune", run, "--limit", "7")

        assert_refused(done)
        assert f"run {run} is cancelled: nothing to tune" in done.stderr


@pytest.mark.parametrize("arguments", [["tune", NO_RUN, "--limit", "7"], ["resume", NO_RUN], ["retry", NO_RUN],
                                       ["events", NO_RUN], ["pause", NO_RUN]], ids=" ".join)  # fmt: skip
def test_a_run_that_does_not_exist_is_said(alone: Backfill, run: str, inhabited: Host, arguments: list[str]) -> None:
    before = inhabited.contents()

    done = alone(*arguments)

    assert_refused(done)
    assert f"there is no run {NO_RUN}" in done.stderr
    assert inhabited.contents() == before


class TestPause:
    def test_says_so_where_the_run_is_paused_already(self, alone: Backfill, run: str) -> None:
        alone("pause", run)

        done = alone("pause", run)

        assert (done.returncode, done.stdout) == (0, f"Run {run} was already paused.\n")
        assert names(alone, run) == ["started", "paused"]

    def test_leaves_a_failed_run_as_it_is_and_says_what_to_type(
        self, alone: Backfill, run: str, inhabited: Host
    ) -> None:
        inhabited.execute("UPDATE backfill.run SET state = 'failed', reason = 'lane 1: no right', finished_at = now()")
        before = inhabited.column("SELECT run FROM backfill.run")

        done = alone("pause", run)

        assert_refused(done)
        assert done.stderr == (
            f"backfill: run {run} has failed: nothing to pause;"
            f" `backfill resume {run}` continues it, `backfill cancel {run}` ends it\n"
        )
        assert inhabited.column("SELECT run FROM backfill.run") == before

    def test_of_a_complete_run_is_refused(self, alone: Backfill, run: str, inhabited: Host) -> None:
        inhabited.execute("UPDATE backfill.run SET state = 'complete', finished_at = now()")

        done = alone("pause", run)

        assert_refused(done)
        assert f"run {run} is complete: nothing to pause; `backfill verify {run}` checks it" in done.stderr


class TestCancel:
    def test_of_a_complete_run_is_refused(self, alone: Backfill, run: str, inhabited: Host) -> None:
        inhabited.execute("UPDATE backfill.run SET state = 'complete', finished_at = now()")

        done = alone("cancel", run)

        assert_refused(done)
        assert f"run {run} is complete: nothing to cancel; `backfill verify {run}` checks it" in done.stderr

    def test_takes_what_its_run_has_in_quarantine_out_of_reach(self, alone: Backfill, run: str) -> None:
        alone("cancel", run)

        done = alone("retry", run)

        assert_refused(done)
        assert f"run {run} is cancelled: nothing to retry; `backfill run` starts another" in done.stderr


class TestPauseAll:
    def test_pauses_every_run_that_is_running(self, alone: Backfill, run: str) -> None:
        other = alone.json("run", "--apply", "--detach", "--force")["run_id"]

        done = alone("pause", "--all")

        assert done.returncode == 0
        assert {line.split()[1] for line in done.stdout.splitlines()} == {run, other}
        assert {each["state"] for each in alone.json("runs")["runs"]} == {"paused"}

    @pytest.mark.usefixtures("run")
    def test_says_so_where_none_is(self, alone: Backfill) -> None:
        alone("pause", "--all")

        done = alone("pause", "--all")

        assert (done.returncode, done.stdout) == (0, "No run is running.\n")

    @pytest.mark.parametrize("arguments", [[], ["some-run", "--all"]], ids=["neither", "both"])
    @pytest.mark.usefixtures("run")
    def test_takes_one_run_or_all(self, alone: Backfill, arguments: list[str]) -> None:
        done = alone("pause", *arguments)

        assert_refused(done)
        assert "name one run, or use --all" in done.stderr


@pytest.mark.usefixtures("worker")
class TestResume:
    def test_goes_on_with_a_run_that_was_paused(self, backfill: Backfill, inhabited: Host) -> None:
        started = backfill.json("run", "--apply", "--detach", "--limit", "20", "--page-delay-ms", "600000")["run_id"]
        backfill("pause", started)
        backfill("tune", started, "--page-delay-ms", "0")

        done = backfill("resume", started)

        assert done.stdout == f"Run {started} is resumed. To follow it: backfill watch {started}\n"
        assert backfill("watch", started).returncode == 0
        assert inhabited.changed() == inhabited.due()

    def test_refuses_a_run_that_has_ended(self, alone: Backfill, run: str) -> None:
        alone("cancel", run)

        done = alone("resume", run)

        assert_refused(done)
        assert "is cancelled: nothing to resume" in done.stderr


@pytest.mark.usefixtures("worker")
class TestRetry:
    @pytest.fixture
    def lead(self, backfill: Backfill, inhabited: Host) -> str:
        """A lead that the newest run has in quarantine, and that the database still refuses."""
        found = inhabited.lead_without_job()
        inhabited.refuse_job_of(found, sqlstate="23514")
        assert backfill("run", "--apply").returncode == 3
        return found

    @pytest.mark.usefixtures("lead")
    def test_of_what_goes_through_leaves_a_run_that_is_whole(self, backfill: Backfill, inhabited: Host) -> None:
        run = backfill.json("status", status=0)["run_id"]
        inhabited.execute("DROP SCHEMA fault CASCADE")

        done = backfill("retry", run)

        assert (done.returncode, done.stdout) == (0, "1 retried, 1 succeeded, 0 left in quarantine.\n")
        assert backfill("verify", run).returncode == 0
        assert inhabited.changed() == inhabited.due()

    def test_of_what_fails_again_names_it_and_exits_with_3(self, backfill: Backfill, lead: str) -> None:
        run = backfill.json("status")["run_id"]

        done = backfill("retry", run)

        assert done.returncode == 3
        assert done.stdout.splitlines() == [
            f"  {lead}",
            "      failed again: the host's function fault.refuse() raised an error (23514)",
            "1 retried, 0 succeeded, 1 left in quarantine.",
        ]

    def test_that_finds_no_room_says_what_holds_it_and_how_to_go_on(
        self, backfill: Backfill, lead: str, inhabited: Host
    ) -> None:
        run = backfill.json("status")["run_id"]
        inhabited.execute("""UPDATE backfill.run SET parameters = parameters || '{"max_pending": 1}'""")

        done = backfill("retry", run)

        assert done.returncode == 3
        assert done.stderr.startswith(f"Stopped at {lead}: no room in the host's queue")
        assert done.stdout == "0 retried, 0 succeeded, 1 left in quarantine.\n"

    def test_where_nothing_is_in_quarantine_does_nothing(self, alone: Backfill, run: str) -> None:
        done = alone("retry", run)

        assert (done.returncode, done.stdout) == (0, "0 retried, 0 succeeded, 0 left in quarantine.\n")
        assert names(alone, run) == ["started"]


class TestEvents:
    def test_tell_what_happened_in_order_and_who_did_it(self, alone: Backfill, run: str) -> None:
        alone("tune", run, "--max-pending", "none")
        alone("pause", run)
        alone("resume", run)
        alone("cancel", run)

        events = alone.json("events", run)["events"]
        assert [each["event"] for each in events] == ["started", "tuned", "paused", "resumed", "cancelled"]
        assert events[1]["detail"] == {"max_pending": [50, None]}
        assert {each["by"].count("@") for each in events} == {1}

    def test_read_well_in_80_columns(self, alone: Backfill, run: str) -> None:
        alone("tune", run, "--max-pending", "none")
        alone("pause", run)

        lines = alone("events", run).stdout.splitlines()

        assert lines[0] == f"Events of run {run}, in UTC"
        assert max(map(len, lines)) <= WIDTH
        assert "max pending 50 -> none" in [line.strip() for line in lines]
        assert "running -> paused" in [line.strip() for line in lines]


class TestPressure:
    @pytest.mark.usefixtures("run")
    def test_shows_every_indicator_with_value_and_threshold(self, alone: Backfill) -> None:
        shown = alone.set(BACKFILL_MAX_LOCK_WAITS="5")("pressure").stdout

        for name in ("live queue", "replication lag", "lock waits", "active sessions", "oldest transaction",
                     "others at work", "page duration"):  # fmt: skip
            assert name in shown
        assert max(map(len, shown.splitlines())) <= WIDTH

    @pytest.mark.usefixtures("run")
    def test_says_why_pages_wait(self, alone: Backfill) -> None:
        measured = alone.set(BACKFILL_MAX_ACTIVE_PERCENT="0").json("pressure")["pressure"]

        (active,) = [each for each in measured if each["indicator"] == "active sessions"]
        assert active["answer"] == "wait"
        assert active["reason"].endswith("connections are at work, over 0 %")

    def test_says_why_pages_are_small(self, alone: Backfill, inhabited: Host) -> None:
        with inhabited.at_work():
            lines = alone.set(BACKFILL_BUSY_LIMIT="50")("pressure").stdout.splitlines()

        assert lines[-2:] == [
            "  others at work: pages of 50 at the most, one at a time: 1 session of others is",
            "  at work",
        ]

    def test_needs_no_ledger_and_changes_nothing(self, alone: Backfill, inhabited: Host) -> None:
        done = alone("pressure")

        assert done.returncode == 0, done.stderr
        assert not inhabited.has_ledger()
