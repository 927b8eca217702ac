"""`backfill status --if`: forecasts with other options."""

from collections.abc import Callable

import pytest
from acceptance.commands import backfill_against
from acceptance.host import make_host
from harness import Backfill

from sandbox.servers import Redis


@pytest.fixture(scope="module")
def backfill(
    make_database: Callable[..., str], deserted_broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Backfill:
    """The command, and a host with a run without a worker; no test changes it."""
    host = make_host(make_database(), 100)
    command = backfill_against(tmp_path_factory.mktemp("forecast"), host.url, deserted_broker.url)
    command("run", "--apply", "--detach")
    return command


def test_each_alternative_is_one_forecast(backfill: Backfill) -> None:
    found = backfill.json("status", "--if", "max-pending=18", "--if", "max-pending=24,jobs-per-minute=30")

    assert [each["label"] for each in found["what_ifs"]] == [
        "at --max-pending 18",
        "at --max-pending 24 --jobs-per-minute 30",
    ]
    assert [each["changes"] for each in found["what_ifs"]] == [
        {"max_pending": 18},
        {"max_pending": 24, "jobs_per_minute": 30.0},
    ]


def test_alternatives_are_shown_one_per_line(backfill: Backfill) -> None:
    shown = " ".join(backfill("status", "--if", "max-pending=18").stdout.split())

    assert "at --max-pending 18: can't be told yet, how many leads will need a job isn't known yet" in shown


@pytest.mark.parametrize("change", ["max-pending", "lanes=4", "max-pending=0", "max-pending=x", "=3", ""])
def test_an_alternative_that_cant_be_is_refused(backfill: Backfill, change: str) -> None:
    assert backfill("status", "--if", change).returncode == 2
