"""`backfill drain` from the command line, with a real worker, beat, and the host's runner as a server."""

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from acceptance.commands import assert_refused
from acceptance.exporter import Export
from acceptance.host import Host
from acceptance.test_json import documented
from cron_route import SECRET, Route, Runner, worked
from harness import Backfill, Worker, wait_for

URL = "https://host.example/api/cron/background-jobs"

#: The leads' jobs that the host works in these tests.
DUE = """
DELETE FROM "BackgroundJob";
INSERT INTO "BackgroundJob" (id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt")
SELECT
  'job-' || lead.id, 'LEAD_SCORING_POST_PROCESS', 'PENDING', 'lead_scoring_backfill:' || lead.id, lead."clientId",
  lead.id, message.id, now() AT TIME ZONE 'UTC' - interval '1 minute', now()
FROM "Lead" AS lead
CROSS JOIN LATERAL (SELECT id FROM "Message" WHERE "leadId" = lead.id LIMIT 1) AS message
ORDER BY lead.id LIMIT {number}
"""


@pytest.fixture
def command(backfill: Backfill) -> Backfill:
    """The command with a ledger and a queue of its own, so that no other test's worker looks after its drain."""
    alone = backfill.set(BACKFILL_QUEUE=f"drain-{secrets.token_hex(4)}", BACKFILL_WATCHDOG_SECONDS="1")
    assert alone("init").returncode == 0
    return alone


@pytest.fixture
def hire(command: Backfill) -> Iterator[Callable[[], Worker]]:
    """Starts workers with beat and the secret."""
    started = []

    def start() -> Worker:
        started.append(Worker.start(command, beat=True, environment={"BACKFILL_CRON_SECRET": SECRET}))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


def status(command: Backfill) -> dict[str, Any]:
    return command.json("drain", "--status")


def wait_for_state(command: Backfill, state: str) -> dict[str, Any]:
    return wait_for(lambda: seen if (seen := status(command))["state"] == state else None, what=state) or {}


def test_the_workers_call_until_every_due_job_is_done_once(
    command: Backfill, hire: Callable[[], Worker], inhabited: Host, export: Export
) -> None:
    inhabited.execute(DUE.format(number=60))
    runner = Runner(inhabited.url, job_seconds=0.02)
    with Route(runner.call).open() as route:
        worker = hire()
        hire()
        started = command("drain", "--url", route.url, "--every", "1s", "--parallel", "2", "--until-done")
        assert started.returncode == 0, started.stderr
        seen = wait_for_state(command, "stopped")
        assert route.most_in_flight <= 2

    assert seen["kind"] == "done"
    assert seen["jobs"]["succeeded"] == len(runner.done) == len({job for job, _ in runner.done}) == 60
    assert [each["event"] for each in seen["events"]] == ["drain started", "drain stopped"]
    assert all(re.fullmatch(r"\S+@\S+", each["by"]) for each in seen["events"])
    assert "the host's runner was called: worked" in worker.output + command.directory.joinpath(
        "worker-2.log"
    ).read_text(encoding="utf-8")
    metrics = export(command).scrape()
    assert metrics("backfill_drain_jobs_total", outcome="succeeded") == 60
    assert metrics("backfill_drain_state", state="stopped") == 1


def test_the_secret_appears_nowhere(command: Backfill, hire: Callable[[], Worker], inhabited: Host) -> None:
    inhabited.execute(DUE.format(number=1))
    with Route(worked).open() as route:
        worker = hire()
        command("drain", "--url", route.url, "--every", "1s")
        wait_for(lambda: route.calls, what="a call")
        shown = command("drain", "--status").stdout + command("drain", "--status", "--json").stdout
        arguments = command_lines()
        command("drain", "--stop")

    assert SECRET not in shown + worker.output + arguments
    assert "BACKFILL_CRON_SECRET = ***" in command.set(BACKFILL_CRON_SECRET=SECRET)("config").stdout


def command_lines() -> str:
    """Return the command lines of all processes, as every user of the machine can read them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            found.append(path.read_text(encoding="utf-8", errors="replace"))
    return "".join(found)


def test_status_shows_what_the_drain_does_and_json_has_the_documented_fields(command: Backfill) -> None:
    assert "There has been no drain" in command("drain", "--status").stdout
    assert status(command) == {"state": "off"}

    started = command("drain", "--url", URL, "--max-failure-rate", "10%", "--until-done")

    assert "No worker is online" in started.stderr
    assert "Drain · waiting" in started.stdout
    assert URL in started.stdout
    assert "failure rate 10%, live wait 0 s" in started.stdout or "live wait not asked" in started.stdout
    assert set(status(command)) == documented("The drain")


def test_it_is_started_tuned_and_stopped_by_command_and_the_events_say_by_whom(command: Backfill) -> None:
    command("drain", "--url", URL)
    command("drain", "--url", URL, "--every", "30s")
    stopped = command.json("drain", "--stop")

    assert (stopped["state"], stopped["kind"], stopped["next_call_at"]) == ("stopped", "by_command", None)
    assert [each["event"] for each in stopped["events"]] == ["drain started", "drain tuned", "drain stopped"]
    assert stopped["events"][1]["detail"] == {"every": [10, 30]}
    assert "every 10 -> 30" in re.sub(r"\s+", " ", command("drain", "--status").stdout)
    assert_refused(command("drain", "--stop"))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--status", "--stop"),
        ("--url", URL, "--stop"),
        ("--status", "--every", "10s"),
        ("--stop", "--allow-http"),
        ("--url", "https://me:hunter2@host.example/"),
        ("--url", "https://host.example/?secret=hunter2"),
        ("--url", "http://host.example/"),
        ("--url", "host.example"),
        ("--url", URL, "--every", "10"),
        ("--url", URL, "--parallel", "0"),
        ("--url", URL, "--max-failure-rate", "0.2"),
        ("--url", URL, "--max-live-wait", "-1"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line_and_starts_nothing(
    command: Backfill, arguments: tuple[str, ...]
) -> None:
    refused = command("drain", *arguments)

    assert_refused(refused)
    assert "hunter2" not in refused.stderr
    assert status(command) == {"state": "off"}


def test_without_a_ledger_it_says_what_to_type(backfill: Backfill) -> None:
    refused = backfill("drain", "--url", URL)

    assert_refused(refused, status=1)
    assert "backfill init" in refused.stderr
