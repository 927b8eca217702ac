"""`backfill rate`, and `run --rate`: one rate for all workers together, shown, set and kept."""

from collections.abc import Iterator

import pytest
from acceptance.commands import assert_refused
from acceptance.host import Host
from harness import Backfill, Worker


@pytest.fixture
def unlimited(backfill: Backfill, worker: Worker) -> Iterator[Backfill]:
    """The command, and a worker without a rate limit after the test."""
    yield backfill
    backfill("rate", "none")


def test_without_one_there_is_no_limit(alone: Backfill) -> None:
    done = alone("rate")

    assert done.stdout == "The rate of all workers together is none.\nNo worker is online.\n"


def test_until_one_is_set_it_is_that_of_the_environment(alone: Backfill) -> None:
    assert alone.set(BACKFILL_RATE_LIMIT="7/s").json("rate")["rate"] == "7/s"


def test_one_that_was_set_holds_whatever_the_environment_says(alone: Backfill) -> None:
    alone("rate", "20/s")

    assert alone.set(BACKFILL_RATE_LIMIT="7/s").json("rate")["rate"] == "20/s"


@pytest.mark.parametrize(("rate", "a_second"), [("20/s", 20.0), ("600/m", 10.0), ("0.5/s", 0.5), ("none", None)])
def test_it_is_set_in_celerys_notation(alone: Backfill, rate: str, a_second: float | None) -> None:
    shown = alone.json("rate", rate)

    assert shown == {"rate": rate, "pages_per_second": a_second, "workers": {}}


def test_setting_one_says_what_it_was(alone: Backfill) -> None:
    alone("rate", "20/s")

    done = alone("rate", "5/s")

    assert done.stderr == "The rate of all workers together is now 5/s; it was 20/s.\n"


def test_each_queue_has_its_own(alone: Backfill) -> None:
    alone("rate", "20/s")

    assert alone.set(BACKFILL_QUEUE="another").json("rate")["rate"] == "none"


@pytest.mark.parametrize("rate", ["0", "0/s", "fast", "20/d", "nan", "", "1e3/s", "20 / s"])
def test_what_is_no_rate_is_refused(alone: Backfill, rate: str) -> None:
    done = alone("rate", rate)

    assert_refused(done)
    assert "is not a rate: write 20/s, 600/m or 0.5/s, or none for no limit" in done.stderr
    assert alone.json("rate")["rate"] == "none"


def test_one_so_low_that_a_page_would_be_delivered_twice_is_refused_with_the_arithmetic(alone: Backfill) -> None:
    done = alone("rate", "1/h")

    assert_refused(done)
    assert "may wait 3,600 s and then take 900 s, and after 3,600 s Redis delivers it a second time" in done.stderr
    assert alone.json("rate")["rate"] == "none"


def test_it_needs_no_database(alone: Backfill) -> None:
    assert alone.set(DATABASE_URL="")("rate", "20/s").returncode == 0


def test_a_redis_that_does_not_answer_is_one_line(alone: Backfill) -> None:
    assert_refused(alone.set(REDIS_URL="redis://127.0.0.1:1/0")("rate", "20/s"), status=1)


def test_workers_are_shown_with_what_waits_in_each(unlimited: Backfill) -> None:
    done = unlimited("rate", "20/s")

    assert done.stdout.splitlines()[0] == "The rate of all workers together is 20/s."
    worker, waiting = done.stdout.splitlines()[-1].split()
    assert (worker.partition("-")[0], waiting) == ("worker", "0")


class TestRun:
    def test_sets_it_before_the_run_starts(self, unlimited: Backfill) -> None:
        run = unlimited.json("run", "--apply", "--rate", "50/s", "--limit", "100")

        assert run["state"] == "complete"
        assert "rate" not in run["parameters"]
        assert unlimited.json("rate")["rate"] == "50/s"

    def test_resumed_sets_it_too(self, alone: Backfill) -> None:
        run = alone.json("run", "--apply", "--detach")["run_id"]
        alone("pause", run)

        done = alone("run", "--resume", "--detach", "--rate", "5/s")

        assert done.returncode == 0, done.stderr
        assert alone.json("rate")["rate"] == "5/s"

    def test_that_only_counts_has_none(self, alone: Backfill) -> None:
        done = alone("run", "--rate", "5/s")

        assert_refused(done)
        assert "--rate needs --apply" in done.stderr

    @pytest.mark.parametrize("rate", ["0", "", "fast"])
    def test_with_what_is_no_rate_is_refused(self, alone: Backfill, inhabited: Host, rate: str) -> None:
        assert_refused(alone("run", "--apply", "--rate", rate))
        assert not inhabited.has_ledger()

    def test_with_more_lanes_than_the_rate_has_time_for_is_refused(self, alone: Backfill, inhabited: Host) -> None:
        alone("init")
        alone("rate", "4/h")

        done = alone("run", "--apply", "--lanes", "4")

        assert_refused(done)
        assert "the last of 4 pages on their way may wait 3,600 s" in done.stderr
        assert inhabited.column("SELECT id FROM backfill.run") == []
