"""A run's pace as an operator sets it: the defaults, the canary, the dry run, and what is refused."""

import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from acceptance.commands import assert_refused
from acceptance.host import Host
from harness import UNBOUNDED, Backfill, Worker, wait_for

OURS = "starts_with(\"dedupeKey\", 'lead_scoring_backfill:')"

#: Pressure measured on a busy test machine is ignored.
CALM = {name: value for name, value in UNBOUNDED.items() if name.endswith(("LOCK_WAITS", "ACTIVE_PERCENT", "PAGE_MS"))}


@pytest.fixture
def by_default(backfill: Backfill) -> Backfill:
    """The command without any setting for a run's pace."""
    kept = {name: value for name, value in backfill.environment.items() if name not in UNBOUNDED}
    return Backfill(backfill.directory, {**kept, **CALM})


@pytest.fixture
def run(by_default: Backfill, worker: Worker, inhabited: Host) -> Iterator[str]:
    """A run with default options, from the moment at which the queue has no more room."""
    inhabited.execute('DELETE FROM "BackgroundJob"')
    started = by_default.json("run", "--apply", "--detach")["run_id"]
    wait_for(lambda: by_default.json("status")["lanes"][0]["reason_kind"] == "max_pending", what="no more room")
    yield started
    by_default("cancel", started)


@pytest.mark.usefixtures("run")
class TestDefaults:
    def test_hold_no_more_than_12_jobs_pending_and_say_so(self, by_default: Backfill, inhabited: Host) -> None:
        assert inhabited.column(f'SELECT count(*) FROM "BackgroundJob" WHERE {OURS}') == [12]
        assert "no room in the host's queue: 12 jobs wait, ours and due live ones" in " ".join(
            by_default("status").stdout.split()
        )

    def test_go_on_when_the_host_has_done_some(self, inhabited: Host) -> None:
        inhabited.execute(
            """
            UPDATE "BackgroundJob" SET status = 'SUCCEEDED'
            WHERE id IN (SELECT id FROM "BackgroundJob" ORDER BY "runAt" LIMIT 8)
            """
        )

        wait_for(
            lambda: inhabited.column(f'SELECT count(*) FROM "BackgroundJob" WHERE {OURS}') == [20], what="8 more jobs"
        )
        assert inhabited.column("""SELECT count(*) FROM "BackgroundJob" WHERE status = 'PENDING'""") == [12]


#: A workspace whose leads come after 12,000 of another, and of which only the last two ever wrote.
FAR_DOWN = """
INSERT INTO "Lead" (id, "clientId", "updatedAt")
SELECT 'zy-' || lpad(n::text, 6, '0'), (SELECT min(id) FROM "Client"), now() FROM generate_series(1, 12000) AS n;
INSERT INTO "Client" (id, name, "userId", "updatedAt") VALUES ('small', 'small', 'user', now());
INSERT INTO "Lead" (id, "clientId", "updatedAt")
SELECT 'zz-' || n, 'small', now() FROM generate_series(1, 8) AS n;
INSERT INTO "Message" (id, "leadId", direction, body)
SELECT 'message-' || n, 'zz-' || n, 'inbound', 'Hello' FROM generate_series(7, 8) AS n;
"""


@pytest.fixture
def far_down(inhabited: Host) -> Iterator[Host]:
    inhabited.execute(FAR_DOWN)
    yield inhabited
    inhabited.execute("""DELETE FROM "Lead" WHERE id ~ '^z[yz]-'; DELETE FROM "Client" WHERE id = 'small'""")


@pytest.mark.usefixtures("worker")
class TestCanary:
    def test_does_one_page_pauses_and_reports_what_is_in_the_database(
        self, backfill: Backfill, inhabited: Host
    ) -> None:
        done = backfill("run", "--apply", "--canary", "--limit", "20", "--lanes", "3")

        (run,) = inhabited.column("SELECT id FROM backfill.run")
        assert done.returncode == 4
        assert inhabited.column("SELECT (counts ->> 'read')::int FROM backfill.page") == [20]
        assert "Clean: no leads are missing, and no count is contradicted." in done.stderr
        assert f"To continue it: backfill resume {run}" in done.stderr

    def test_does_the_rest_when_it_is_resumed(self, backfill: Backfill, inhabited: Host) -> None:
        backfill("run", "--apply", "--canary", "--limit", "20")
        (run,) = inhabited.column("SELECT id FROM backfill.run")

        assert backfill("resume", run).returncode == 0

        assert backfill("watch", run).returncode == 0
        assert inhabited.changed() == inhabited.due()

    def test_finds_a_small_workspace_far_down_the_table(self, backfill: Backfill, far_down: Host) -> None:
        done = backfill("run", "--apply", "--canary", "--limit", "1", "--lanes", "4", "--client-id", "small")

        assert done.returncode == 4
        read = far_down.column("SELECT (counts ->> 'read')::int FROM backfill.page ORDER BY lane, number")
        assert (len(read) > 3, sum(read)) == (True, 1)
        assert "Clean: no leads are missing, and no count is contradicted." in done.stderr
        assert "To continue it: backfill resume" in done.stderr

    def test_says_that_it_read_nothing(self, backfill: Backfill, far_down: Host) -> None:
        far_down.execute("""DELETE FROM "Message" WHERE "leadId" LIKE 'zz-%'""")

        done = backfill("run", "--apply", "--canary", "--lanes", "4", "--client-id", "small")

        assert done.returncode == 0
        assert "The canary read no leads" in done.stderr
        assert "It has passed the whole table: lead-scoring has nothing to do." in done.stderr
        assert "To continue it" not in done.stderr

    @pytest.mark.parametrize(
        "arguments", [["--canary"], ["--apply", "--canary", "--single-batch"], ["--apply", "--canary", "--resume"]]
    )
    def test_is_refused_where_it_makes_no_sense(self, alone: Backfill, inhabited: Host, arguments: list[str]) -> None:
        done = alone("run", *arguments)

        assert_refused(done)
        assert "--canary" in done.stderr
        assert not inhabited.has_ledger()


class TestDryRun:
    def test_speaks_of_money_and_of_how_long_the_jobs_take_to_come_due(self, alone: Backfill) -> None:
        counts = alone.json("run")["counts"]
        jobs = counts["inserted"] + counts["requeued"]

        shown = alone("run", "--cost-per-job", "0.5", "--jobs-per-minute", "60").stdout

        assert re.search(rf"cost +{jobs / 2:,.2f} +{jobs:,} jobs at 0\.5", shown)
        assert re.search(rf"spread over +{jobs // 60} min {jobs % 60} s +60 jobs come due per minute", shown)

    def test_has_both_for_scripts(self, alone: Backfill) -> None:
        counted = alone.json("run", "--cost-per-job", "0.5")

        assert counted["cost"] == counted["jobs"] / 2

    def test_says_nothing_of_money_where_no_price_is_given(self, alone: Backfill) -> None:
        assert "cost" not in alone("run").stdout
        assert alone.json("run")["cost"] is None


@pytest.mark.usefixtures("worker")
def test_jobs_per_minute_lets_so_many_come_due_a_minute_evenly(backfill: Backfill, inhabited: Host) -> None:
    inhabited.execute('DELETE FROM "BackgroundJob"')

    backfill.json("run", "--apply", "--jobs-per-minute", "10")

    times = inhabited.column(f'SELECT "runAt" FROM "BackgroundJob" WHERE {OURS} ORDER BY 1')
    assert {round((after - before) / timedelta(seconds=1), 2) for before, after in pairwise(times)} == {6.0}


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--delay-ms", "100", "--jobs-per-minute", "5"], "--delay-ms: it contradicts --jobs-per-minute"),
            (["--jobs-per-minute", "0"], "--jobs-per-minute"),
            (["--jobs-per-minute", "-1"], "--jobs-per-minute"),
            (["--jobs-per-minute", "nan"], "--jobs-per-minute"),
            (["--jobs-per-minute", "10/m"], "--jobs-per-minute"),
            (["--max-pending", "0"], "--max-pending"),
            (["--max-pending", "1.5"], "--max-pending"),
            (["--max-jobs", "0"], "--max-jobs"),
            (["--max-jobs", ""], "--max-jobs"),
            (["--max-live-wait", "none"], "--max-live-wait"),
            (["--max-live-wait", "-1"], "--max-live-wait"),
            (["--target-page-ms", "60001"], "--target-page-ms"),
            (["--cost-per-job", "0"], "--cost-per-job"),
            (["--cost-per-job", "-1"], "--cost-per-job"),
            (["--cost-per-job", "nan"], "--cost-per-job"),
            (["--cost-per-job", "inf"], "--cost-per-job"),
            (["--cost-per-job", "1e3"], "--cost-per-job"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_an_option_that_makes_no_sense(
        self, alone: Backfill, inhabited: Host, options: list[str], says: str
    ) -> None:
        done = alone("run", "--apply", *options)

        assert_refused(done)
        assert says in done.stderr
        assert not inhabited.has_ledger()


def test_a_run_that_is_resumed_at_another_pace_names_the_difference_and_what_changes_it(
    alone: Backfill, inhabited: Host
) -> None:
    run = alone.json("run", "--apply", "--detach", "--jobs-per-minute", "10")["run_id"]
    before = inhabited.contents()

    done = alone("run", "--resume", "--jobs-per-minute", "5")

    assert_refused(done)
    assert f"run {run} has --jobs-per-minute 10, not 5" in done.stderr
    assert f"backfill tune {run}" in done.stderr
    assert inhabited.contents() == before


def test_an_environment_s_bounds_give_way_to_those_of_the_command_line(alone: Backfill) -> None:
    bounded = alone.set(BACKFILL_MAX_PENDING="7", BACKFILL_JOBS_PER_MINUTE="3")

    parameters = bounded.json("run", "--max-pending", "none")["parameters"]

    assert (parameters["max_pending"], parameters["jobs_per_minute"]) == (None, 3)


def test_a_delay_stands_for_the_jobs_a_minute_of_the_environment(alone: Backfill) -> None:
    parameters = alone.set(BACKFILL_JOBS_PER_MINUTE="3").json("run", "--delay-ms", "100")["parameters"]

    assert (parameters["delay_ms"], parameters["jobs_per_minute"]) == (100, None)
