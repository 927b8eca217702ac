"""The faults of the runbook, made on purpose: what the commands say, and that the jobs end up done.

Scoring asks a local server in the provider's place, and the drain calls a local one in the host's.
"""

import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from acceptance.exporter import Export
from acceptance.host import Host
from acceptance.test_drain import DUE
from cron_route import SECRET, Reply, Route, Runner, worked
from harness import Backfill, Worker, wait_for
from scoring.openai_server import Behaviour, OpenAIServer, failing, serving

pytestmark = pytest.mark.long

LIVE = """
INSERT INTO "BackgroundJob" (id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt")
SELECT
  'live-' || number, 'EMAIL_INBOUND_POST_PROCESS', 'PENDING', 'live-' || number, lead."clientId", lead.id, message.id,
  now() AT TIME ZONE 'UTC' - interval '{seconds} seconds', now()
FROM generate_series(1, {number}) AS number
CROSS JOIN LATERAL (SELECT * FROM "Message" LIMIT 1) AS message
JOIN "Lead" AS lead ON lead.id = message."leadId"
"""

Hire = Callable[..., Worker]


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    """A model's provider on this machine."""
    with serving() as server:
        yield server


@pytest.fixture
def command(backfill: Backfill, inhabited: Host, provider: OpenAIServer) -> Backfill:
    """The command with a ledger and queues of its own, on a host whose runner holds no job."""
    inhabited.execute("DELETE FROM \"BackgroundJob\" WHERE status = 'RUNNING'")
    alone = backfill.set(
        BACKFILL_QUEUE=f"drill-{secrets.token_hex(4)}",
        BACKFILL_WATCHDOG_SECONDS="1",
        BACKFILL_CRON_SECRET=SECRET,
        OPENAI_API_KEY="key",
        OPENAI_BASE_URL=provider.url,
        BACKFILL_OPENAI_TIMEOUT="5",
    )
    assert alone("init").returncode == 0
    return alone


@pytest.fixture
def hire(command: Backfill) -> Iterator[Hire]:
    """Starts workers with beat: for pages and the drain, or, with `scoring`, for batches."""
    started = []

    def start(*, scoring: bool = False, **environment: str) -> Worker:
        options = ("-Q", f"{command.environment['BACKFILL_QUEUE']}.scoring") if scoring else ()
        started.append(Worker.start(command, beat=True, options=options, environment=environment))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


def said(command: Backfill, *arguments: str) -> str:
    """Return what a command prints, on one line."""
    return re.sub(r"\s+", " ", command(*arguments).stdout)


def wait_until_it_says(command: Backfill, words: str, *arguments: str) -> str:
    """Wait until a command's output contains these words, and return it, on one line."""
    return wait_for(lambda: text if words in (text := said(command, *arguments)) else None, what=words) or ""


def work(command: Backfill, *options: str) -> None:
    started = command("work", "--scorer", "openai", "--detach", *options)
    assert started.returncode == 0, started.stderr


def session(command: Backfill) -> dict[str, Any]:
    return command.json("work", "--status")


def statuses(host: Host) -> dict[str, int]:
    """Return how many of our jobs have which status."""
    query = """
    SELECT status::text, count(*) AS jobs FROM "BackgroundJob"
    WHERE starts_with("dedupeKey", 'lead_scoring_backfill:') GROUP BY 1
    """
    return {row["status"]: row["jobs"] for row in host.rows(query)}


class TestScoringHere:
    def test_a_provider_that_is_down_costs_few_attempts_and_scoring_goes_on_when_it_is_back(
        self, command: Backfill, hire: Hire, inhabited: Host, provider: OpenAIServer
    ) -> None:
        inhabited.execute(DUE.format(number=60))
        provider.default = failing(503)
        hire(scoring=True)
        work(command, "--max-spend", "1.00", "--until-done", "--parallel", "1")

        shown = wait_until_it_says(command, "requests fail one after another", "work", "--status")

        assert "503" in shown
        assert "One job at a time is tried, at least once a minute" in shown
        assert "Next: backfill work --stop leaves the jobs to the host's runner" in shown
        assert statuses(inhabited).get("FAILED", 0) == 0

        provider.default = Behaviour()
        wait_for(lambda: session(command)["state"] == "complete", what="scoring to end")
        assert statuses(inhabited) == {"SUCCEEDED": 60}

    def test_a_wrong_key_ends_the_session_and_leaves_every_job_untried(
        self, command: Backfill, hire: Hire, inhabited: Host, provider: OpenAIServer
    ) -> None:
        inhabited.execute(DUE.format(number=20))
        provider.default = failing(401, "invalid_api_key")
        hire(scoring=True)
        work(command, "--max-spend", "1.00")

        shown = wait_until_it_says(command, "· stopped ·", "work", "--status")

        assert "the scorer refuses every request" in shown
        assert "401" in shown
        assert "The jobs that are left wait, and come due for the host's runner." in shown
        assert "set OPENAI_API_KEY to a valid one, and restart the workers" in shown
        assert "Next: backfill work --scorer openai --max-spend AMOUNT" in shown
        assert statuses(inhabited)["PENDING"] > 10
        assert inhabited.column("""SELECT max(attempts) FROM "BackgroundJob" WHERE status = 'PENDING'""") == [0]

    def test_a_budget_that_is_used_up_ends_the_session_and_another_one_does_the_rest(
        self, command: Backfill, hire: Hire, inhabited: Host, export: Export
    ) -> None:
        inhabited.execute(DUE.format(number=20))
        hire(scoring=True)
        work(command, "--max-spend", "0.002")

        shown = wait_until_it_says(command, "· exhausted ·", "work", "--status")

        assert "the budget doesn't cover another request" in shown
        assert "The jobs that are left wait, untried, and come due for the host's runner." in shown
        assert "Next: backfill work --scorer openai --max-spend AMOUNT scores them with another budget" in shown
        assert session(command)["spent_micros"] <= 2_000
        left = statuses(inhabited)["PENDING"]
        metrics = export(command).scrape()
        assert metrics("backfill_scoring_state", state="exhausted") == 1
        assert metrics("backfill_waiting_jobs", kind="due") == left

        work(command, "--max-spend", "5.00", "--until-done")
        wait_for(lambda: session(command)["state"] == "complete", what="the rest to be scored")
        assert statuses(inhabited) == {"SUCCEEDED": 20}

    def test_jobs_reserved_for_workers_that_are_gone_go_to_the_host(
        self, command: Backfill, hire: Hire, inhabited: Host, provider: OpenAIServer, export: Export
    ) -> None:
        provider.default = Behaviour(latency=0.2)
        hire()
        command.json("run", "--apply", "--score-here")
        scorer = hire(scoring=True)
        work(command, "--max-spend", "5.00", "--batch", "5", "--concurrency", "1")
        wait_for(lambda: session(command)["counts"]["scored"], what="a lead to be scored")

        scorer.kill()

        shown = wait_until_it_says(command, "2 of 2 slots show no life", "work", "--status")
        assert "No worker takes its batches, so nothing is scored here." in shown
        assert f"Next: backfill worker -Q {command.environment['BACKFILL_QUEUE']}.scoring" in shown
        # The watchdog gives the slots a new batch now and then: until that one shows no life, they count as alive.
        doctor = wait_until_it_says(command, "reserved for scoring here, and nothing scores here", "doctor")
        assert re.search(r"look [\d,]+ jobs are reserved for scoring here, and nothing scores here", doctor)
        assert re.search(r"look [\d,]+ jobs are reserved for scoring here, and nothing scores here", doctor)
        assert re.search(r"The first come due for the host's runner in (23 h|1 d)", doctor)
        exporter = export(command)
        metrics = wait_for(
            lambda: seen if (seen := exporter.scrape())("backfill_scoring_slots_alive") == 0 else None,
            what="the slots to show no life",
        )
        assert metrics("backfill_waiting_jobs", kind="reserved") > 0
        assert metrics("backfill_reserved_due_seconds") > 80_000

        wait_for(lambda: statuses(inhabited).get("RUNNING", 0) == 0, what="the jobs held to be released")
        inhabited.execute("""UPDATE "BackgroundJob" SET "runAt" = "runAt" - interval '20 days'""")  # time passes
        runner = Runner(inhabited.url, limit=200)
        wait_for(
            lambda: runner.call() and not {"PENDING", "RUNNING"} & statuses(inhabited).keys(),
            what="the host to do them",
        )
        assert len(runner.done) > 500


class TestTheDrain:
    def start(self, command: Backfill, route: Route, *options: str) -> None:
        started = command("drain", "--url", route.url, "--every", "1s", *options)
        assert started.returncode == 0, started.stderr

    def test_a_host_that_only_dispatches_is_called_once(self, command: Backfill, hire: Hire, inhabited: Host) -> None:
        inhabited.execute(DUE.format(number=5))
        with Route(lambda: Reply.json(202, mode="dispatch-only")).open() as route:
            hire()
            self.start(command, route)

            shown = wait_until_it_says(command, "Drain · stopped", "drain", "--status")

        assert "the host only dispatches an event (mode dispatch-only)" in shown
        assert "Raise the concurrency of the host's function there" in shown
        assert "The jobs wait for the host's cron, which does them at its own pace." in shown
        assert len(route.calls) == 1

    def test_a_wrong_secret_stops_it_until_the_workers_have_the_hosts(
        self, command: Backfill, hire: Hire, inhabited: Host, export: Export
    ) -> None:
        inhabited.execute(DUE.format(number=5))
        runner, other = Runner(inhabited.url), secrets.token_hex(16)
        with Route(runner.call).open() as route:
            wrong = hire(BACKFILL_CRON_SECRET=other)
            self.start(command, route)
            shown = wait_until_it_says(command, "Drain · stopped", "drain", "--status")
            metrics = export(command).scrape()
            wrong.stop()
            hire()
            self.start(command, route, "--until-done")
            wait_for(lambda: command.json("drain", "--status")["kind"] == "done", what="the drain to end")

        assert "the host refuses the secret (HTTP 401: Unauthorized): set BACKFILL_CRON_SECRET" in shown
        assert other not in shown + wrong.output
        assert metrics("backfill_drain_stopped", kind="unauthorized") == 1
        assert statuses(inhabited) == {"SUCCEEDED": 5}

    def test_live_jobs_that_wait_too_long_pause_it_and_it_goes_on_by_itself(
        self, command: Backfill, hire: Hire, inhabited: Host
    ) -> None:
        inhabited.execute(DUE.format(number=5))
        inhabited.execute(LIVE.format(number=1, seconds=300))
        answers = [worked(0)]
        runner = Runner(inhabited.url)
        with Route(lambda: answers.pop() if answers else runner.call()).open() as route:
            hire()
            self.start(command, route, "--max-live-wait", "180", "--until-done")

            shown = wait_until_it_says(command, "Drain · paused", "drain", "--status")

            assert re.search(r"a live job has waited for 3\d\d s, over 180 s", shown)
            assert "It makes one call a minute meanwhile, and goes on by itself." in shown
            inhabited.execute("""UPDATE "BackgroundJob" SET status = 'SUCCEEDED' WHERE id = 'live-1'""")
            wait_for(lambda: command.json("drain", "--status")["kind"] == "done", what="the drain to end")

        names = [each["event"] for each in command.json("drain", "--status")["events"]]
        assert names == ["drain started", "drain paused", "drain resumed", "drain stopped"]

    def test_it_does_what_a_host_whose_runner_has_stopped_has_left(
        self, command: Backfill, hire: Hire, inhabited: Host
    ) -> None:
        inhabited.execute('DELETE FROM "BackgroundJob"')
        inhabited.execute(LIVE.format(number=3, seconds=202))
        patient = command.set(BACKFILL_MAX_LIVE_WAIT="180", BACKFILL_MAX_PENDING="auto", BACKFILL_DRAIN_SECONDS="60")
        hire(BACKFILL_MAX_LIVE_WAIT="180")
        patient.json("run", "--apply", "--detach")
        stuck = wait_until_it_says(patient, "a live job has waited for", "status")

        runner = Runner(inhabited.url, limit=50)
        with Route(runner.call).open() as route:
            self.start(command, route)
            wait_for(lambda: statuses(inhabited).get("SUCCEEDED", 0) > 20, what="our jobs to be done")

        assert re.search(r"a live job has waited for 2\d\d s, over 180 s", stuck)
        assert {job for job, _ in runner.done} >= {"live-1", "live-2", "live-3"}


class TestAStarvedRun:
    def test_says_for_how_long_what_goes_through_and_what_helps(
        self, command: Backfill, hire: Hire, inhabited: Host
    ) -> None:
        inhabited.execute(LIVE.format(number=40, seconds=100))
        inhabited.execute(STARVED)
        auto = command.set(BACKFILL_MAX_PENDING="auto", BACKFILL_DRAIN_SECONDS="60")
        hire(BACKFILL_MAX_PENDING="auto", BACKFILL_DRAIN_SECONDS="60")
        auto.json("run", "--apply", "--detach")

        shown = wait_until_it_says(auto, "starved for 3 h", "status")

        assert "live jobs leave no room, and only the guaranteed 5 % of the drain goes through" in shown
        assert "`backfill drain` has the host's runner called more often" in shown


#: A bound as live jobs have left it: for three hours, they have filled the host's calls.
STARVED = """
INSERT INTO backfill.bound (backfill, state)
SELECT 'lead-scoring', jsonb_build_object(
  'rhythm', jsonb_build_object('seconds', 60, 'phase', 0), 'capacity', 20, 'growing', false, 'rest', 2,
  'judged', extract(epoch FROM now()) - 60, 'had_room', false, 'starved_since', extract(epoch FROM now()) - 10_900,
  'live_per_call', 20
)
"""
