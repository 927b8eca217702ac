"""Following a run and detaching: Ctrl-C and SIGTERM end the command, never the run."""

import json
import signal

import pytest
import redis
from acceptance.commands import Follow, redis_contents
from acceptance.host import Host
from harness import PATIENCE, Backfill, Worker
from long_forms import long_except

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_detaches_and_the_run_continues(
    alone: Backfill, inhabited: Host, follow: Follow, number: signal.Signals
) -> None:
    process = follow(alone, "run", "--apply")
    inhabited.wait_for_a_run()
    process.send_signal(number)

    output, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 4
    assert "Detached. The run continues." in errors
    assert output == ""
    assert inhabited.column("SELECT state FROM backfill.run") == ["running"]


@pytest.mark.parametrize("number", long_except(signal.SIGTERM, SIGNALS), ids=lambda number: number.name)
def test_a_signal_during_seeding_detaches_after_it(
    alone: Backfill, inhabited: Host, follow: Follow, number: signal.Signals
) -> None:
    alone("init")
    with inhabited.locked("backfill.run", "EXCLUSIVE"):
        process = follow(alone, "run", "--apply", "--lanes", "3")
        inhabited.wait_until_somebody_waits()
        process.send_signal(number)

    _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 4
    assert "Detached. The run continues." in errors
    with redis.Redis.from_url(alone.environment["REDIS_URL"]) as client:
        assert client.llen("backfill.v2") == 3


@pytest.mark.parametrize("number", long_except(signal.SIGTERM, SIGNALS), ids=lambda number: number.name)
def test_a_signal_before_the_start_starts_nothing(
    alone: Backfill, inhabited: Host, follow: Follow, number: signal.Signals
) -> None:
    before = inhabited.contents()
    with inhabited.locked('"Lead"', "ACCESS EXCLUSIVE"):
        process = follow(alone, "run", "--apply")
        inhabited.wait_until_somebody_waits()
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 4
    assert (output, errors) == ("", "backfill: stopped before a run was started\n")
    assert inhabited.contents() == before
    assert redis_contents(alone) == {}


def test_a_signal_ends_a_dry_run_without_changes(alone: Backfill, inhabited: Host, follow: Follow) -> None:
    with inhabited.locked('"Message"', "ACCESS EXCLUSIVE"):
        process = follow(alone, "run")
        inhabited.wait_until_somebody_waits()
        process.send_signal(signal.SIGTERM)

    _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 4
    assert "Nothing was changed." in errors


def test_a_detached_run_completes(backfill: Backfill, worker: Worker, inhabited: Host, follow: Follow) -> None:
    process = follow(backfill, "run", "--apply", "--limit", "75", "--page-delay-ms", "400", "--json")
    inhabited.wait_for_pages(1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)

    ended = backfill.json("watch")

    assert process.returncode == 4
    assert json.loads(output)["state"] == "running"
    assert ended["state"] == "complete"
    assert inhabited.changed() == inhabited.due()


def test_watching_survives_a_lost_database_connection(
    backfill: Backfill, worker: Worker, inhabited: Host, follow: Follow
) -> None:
    process = follow(backfill, "run", "--apply", "--limit", "75", "--page-delay-ms", "300")
    inhabited.wait_for_pages(1)
    inhabited.cut_connections()

    _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, errors
    assert inhabited.changed() == inhabited.due()
