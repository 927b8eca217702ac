"""The exporter: a scrape's metrics, unreachable sources, and access control."""

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from acceptance.commands import assert_refused, backfill_against
from acceptance.exporter import Export, Scrape
from acceptance.host import Host
from harness import PATIENCE, Backfill, Worker

from sandbox.servers import Redis

REFERENCE = Path(__file__).parents[2] / "docs/reference/metrics.md"
TOKEN = "a-token-of-some-length"  # noqa: S105  of these tests
NOBODY = "postgresql://nobody@127.0.0.1:1/none"


#: Every job has ended, so the end of a complete run is known.
ENDED = """
UPDATE "BackgroundJob" SET status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC'
WHERE status IN ('PENDING', 'RUNNING')
"""


def test_a_scrape_has_the_runs_counts(backfill: Backfill, worker: Worker, inhabited: Host, export: Export) -> None:
    exporter = export(backfill)
    run = backfill.json("run", "--apply", "--lanes", "2", "--limit", "50")

    found = exporter.wait_for_sample("backfill_run_state", 1, run=run["run_id"], state="complete")

    assert found("backfill_pages_total", run=run["run_id"]) == run["pages"]
    assert found("backfill_items_read_total") == run["counts"]["read"]
    classes = {name: count for name, count in run["counts"].items() if name not in {"read", "quarantined"}}
    assert {name: found("backfill_items_total", **{"class": name}) for name in classes} == classes
    assert found("backfill_lanes", state="done") == len(run["lanes"])
    assert found("backfill_lane_idle_seconds") is None


def test_every_page_of_a_run_is_timed_once(backfill: Backfill, worker: Worker, export: Export) -> None:
    exporter = export(backfill)
    exporter.scrape()
    run = backfill.json("run", "--apply", "--lanes", "2", "--limit", "50")

    exporter.wait_for_sample("backfill_run_state", 1, state="complete")

    found = exporter.scrape()
    assert found("backfill_page_duration_seconds_count") == run["pages"]
    assert found("backfill_page_duration_seconds_bucket", le="+Inf") == run["pages"]


def test_quarantined_items_are_counted(backfill: Backfill, worker: Worker, inhabited: Host, export: Export) -> None:
    inhabited.refuse_job_of(inhabited.lead_without_job(), sqlstate="23514")
    backfill("run", "--apply")

    found = export(backfill).scrape()

    assert found("backfill_quarantined_items") == 1
    assert found("backfill_items_total", **{"class": "quarantined"}) is None


def test_workers_are_counted_down_to_zero(backfill: Backfill, worker: Worker, alone: Backfill, export: Export) -> None:
    export(backfill).wait_for_sample("backfill_workers", 1)
    export(alone).wait_for_sample("backfill_workers", 0)


def test_an_idle_run_shows_its_queue_rate_and_idle_lanes(alone: Backfill, export: Export) -> None:
    run = alone.json("run", "--apply", "--detach", "--lanes", "2")["run_id"]
    alone("rate", "2/s")

    found = export(alone).scrape()

    assert found("backfill_queue_messages") == 2
    assert found("backfill_rate_limit_pages_per_second") == 2
    idle = [found("backfill_lane_idle_seconds", run=run, lane=lane) for lane in ("1", "2")]
    assert all(seconds is not None and seconds > 0 for seconds in idle)


def test_a_waiting_live_job_is_measured_even_without_waiting_pages(
    alone: Backfill, inhabited: Host, export: Export
) -> None:
    inhabited.execute(
        """
        INSERT INTO "BackgroundJob" (id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt",
                                     "updatedAt")
        SELECT 'live', type, 'PENDING', 'live', "clientId", "leadId", "messageId",
               now() AT TIME ZONE 'UTC' - interval '2 years', now()
        FROM "BackgroundJob" LIMIT 1
        """
    )

    found = export(alone).scrape()

    waited = found("backfill_pressure_seconds", indicator="live queue")
    assert waited is not None
    assert waited > 700 * 86_400
    assert found("backfill_pressure_state", indicator="live queue", state="go") == 1


def test_jobs_ahead_counts_the_jobs_that_bound_a_run(alone: Backfill, inhabited: Host, export: Export) -> None:
    not_done = """
        SELECT count(*) FROM "BackgroundJob"
        WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
          OR starts_with("dedupeKey", 'lead_scoring_backfill:')
            AND (status = 'RUNNING' OR status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC' + interval '60 s')
    """

    found = export(alone).scrape()

    assert [found("backfill_jobs_ahead", backfill="lead-scoring")] == inhabited.column(not_done)


def test_a_stalled_lane_has_a_reason(alone: Backfill, export: Export) -> None:
    run = alone.json("run", "--apply", "--detach", "--lanes", "1")["run_id"]

    stall = export(alone).wait_for("backfill_lane_stalled_seconds", run=run, lane="1", reason="no_worker")

    assert stall > 0


def test_lanes_report_an_unreachable_database_as_their_reason(alone: Backfill, inhabited: Host, export: Export) -> None:
    run = alone.json("run", "--apply", "--detach", "--lanes", "1")["run_id"]
    exporter = export(alone)
    before = exporter.wait_for("backfill_lane_stalled_seconds", run=run, reason="no_worker")

    with inhabited.closed():
        after = exporter.wait_for("backfill_lane_stalled_seconds", run=run, lane="1", reason="database_unreachable")

    assert after > before


def test_a_missing_ledger_is_not_an_error(alone: Backfill, export: Export) -> None:
    found = export(alone).scrape()

    assert found("backfill_source_up", source="ledger") == 1
    assert found("backfill_run_state") is None


def test_unreachable_sources_are_reported_down_and_left_out(alone: Backfill, export: Export) -> None:
    away = alone.set(DATABASE_URL=NOBODY, REDIS_URL="redis://127.0.0.1:1/0")

    found = export(away).scrape()

    assert {
        source: found("backfill_source_up", source=source) for source in ("ledger", "host", "redis", "workers")
    } == {
        "ledger": 0,
        "host": 0,
        "redis": 0,
        "workers": 0,
    }
    assert found("backfill_workers") is None
    assert found("backfill_pressure_seconds") is None


def test_a_database_is_read_again_after_an_outage(backfill: Backfill, inhabited: Host, export: Export) -> None:
    exporter = export(backfill)
    exporter.scrape()

    inhabited.cut_connections()

    exporter.wait_for_sample("backfill_source_up", 1, source="ledger")
    exporter.wait_for_sample("backfill_source_up", 1, source="host")


def test_a_silent_database_does_not_delay_other_sources(tmp_path: Path, broker: Redis, export: Export) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        exporter = export(backfill_against(tmp_path, url, broker.url))
        found = exporter.scrape()
        stopped = exporter.stop()

    assert {source: found("backfill_source_up", source=source) for source in ("ledger", "host", "redis")} == {
        "ledger": 0,
        "host": 0,
        "redis": 1,
    }
    assert found("backfill_queue_messages") is not None
    assert stopped == 0


def test_a_scrape_writes_nothing(alone: Backfill, inhabited: Host, export: Export) -> None:
    alone.json("run", "--apply", "--detach")
    before = inhabited.contents()

    export(alone).scrape()

    assert inhabited.contents() == before


#: The bound after a page has asked for it: a host that takes 20 jobs a minute.
BOUND = """
INSERT INTO backfill.bound (backfill, state)
VALUES ('lead-scoring', '{"rhythm": {"seconds": 60, "phase": 0}, "capacity": 20, "growing": false, "rest": 2}')
"""

#: A drain that has made a call and was stopped.
DRAINED = """
INSERT INTO backfill.drain (url, every_seconds, parallel, until_done, max_live_wait, started_by, state, kind)
VALUES ('https://host.example/', 10, 2, false, 180, 'root@host', 'stopped', 'by_command');
INSERT INTO backfill.drain_total VALUES ('worked', 1, 10, 10, 0, 0, 0, 0)
"""


#: A session of scoring here that was stopped, and jobs that are reserved again.
RESERVED = """
INSERT INTO backfill.scoring (id, scorer, state, parameters, started_by) VALUES ('s', 'rules', 'stopped', '{}', 'me');
UPDATE backfill.run SET parameters = parameters || '{"score_here": true}';
UPDATE "BackgroundJob" SET status = 'PENDING', "runAt" = now() AT TIME ZONE 'UTC' + interval '1 day'
WHERE starts_with("dedupeKey", 'lead_scoring_backfill:')
"""


@pytest.mark.long
def test_the_reference_lists_every_metric_with_type_and_labels(
    backfill: Backfill, worker: Worker, inhabited: Host, export: Export
) -> None:
    exporter = export(backfill)
    exporter.scrape()
    backfill("rate", "1000/s")
    backfill.json("run", "--apply", "--limit", "50")
    backfill.json("run", "--apply", "--detach", "--limit", "1", "--page-delay-ms", "600000")
    inhabited.execute("UPDATE backfill.run SET expected = 2000")  # as if counted before the run
    inhabited.execute(ENDED)
    inhabited.execute(BOUND)
    inhabited.execute(DRAINED)
    exporter.wait_for_sample("backfill_run_expected_items", 4000)
    exporter.wait_for("backfill_forecast_seconds", bound="latest")
    inhabited.execute(RESERVED)
    exporter.wait_for("backfill_bound_jobs", backfill="lead-scoring")
    exporter.wait_for("backfill_drain_calls_total", result="worked")
    exporter.wait_for("backfill_reserved_due_seconds")
    exporter.wait_for("backfill_lane_stalled_seconds", reason="page_delay")
    found = exporter.wait_for_sample("backfill_workers", 1)

    listed = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*)\|", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)

    assert {name: kind for name, kind, _ in listed} == found.types
    documented = {name: set(labels.replace(",", " ").split()) for name, _, labels in listed}
    assert {name: _labels(found, name) for name in found.types} == documented


def test_promtool_accepts_the_metrics(alone: Backfill, export: Export) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool (Debian: apt install prometheus)")
    alone.json("run", "--apply", "--detach")
    _, text = export(alone).get()

    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def _labels(found: Scrape, name: str) -> set[str]:
    """Return the names of a metric's labels, after checking that it has samples."""
    labelled = [labels for each, labels in found.samples if each in {name, f"{name}_count"}]
    assert labelled, name
    return {label for labels in labelled for label, _ in labels}


def test_only_the_token_grants_access(alone: Backfill, export: Export) -> None:
    exporter = export(alone.set(BACKFILL_METRICS_TOKEN=TOKEN))
    wrong = ["", f"Bearer {TOKEN}x", "Bearer", "Basic !", f"Basic {TOKEN}", TOKEN, "\xff"]

    assert [exporter.get(authorization=f"{scheme} {TOKEN}")[0] for scheme in ("Bearer", "bearer")] == [200, 200]
    assert [exporter.get(authorization=each)[0] for each in wrong] == [401] * len(wrong)


def test_other_paths_are_not_found(alone: Backfill, export: Export) -> None:
    assert [export(alone).get(path=path)[0] for path in ("/", "/metricsx", "/..")] == [404, 404, 404]


def test_the_exporter_listens_on_this_machine_only(alone: Backfill, export: Export) -> None:
    port = int(export(alone).url.rsplit(":", 1)[1].split("/")[0])

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", ""])  # noqa: S104  must be refused
def test_a_public_address_without_a_token_is_refused(alone: Backfill, address: str) -> None:
    assert_refused(alone("metrics", "--address", address))


@pytest.mark.parametrize("options", [("--address", "nowhere.invalid"), ("--address", "192.0.2.1")], ids=" ".join)
def test_an_address_of_another_machine_is_refused(alone: Backfill, options: tuple[str, ...]) -> None:
    assert_refused(alone.set(BACKFILL_METRICS_TOKEN=TOKEN)("metrics", *options))


def test_a_port_in_use_is_a_one_line_error(alone: Backfill, export: Export) -> None:
    port = export(alone).url.rsplit(":", 1)[1].split("/")[0]

    done = alone("metrics", "--port", port)

    assert_refused(done)
    assert "Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("TOKEN", "short"), ("TOKEN", "a token with spaces in it"), ("LOGIN", "ops"), ("LOGIN", "ops:"), ("LOGIN", ":x")],
)
def test_an_invalid_token_or_login_is_refused_and_not_repeated(alone: Backfill, name: str, value: str) -> None:
    done = alone.set(**{f"BACKFILL_METRICS_{name}": value})("metrics")

    assert_refused(done)
    assert f": {value}" not in done.stderr


def test_sigterm_ends_the_exporter_cleanly(alone: Backfill, export: Export) -> None:
    exporter = export(alone)
    began = time.monotonic()

    assert exporter.stop() == 0
    assert time.monotonic() - began < 20


def test_the_exporter_starts_before_its_database(tmp_path: Path, deserted_broker: Redis, export: Export) -> None:
    found = export(backfill_against(tmp_path, NOBODY, deserted_broker.url)).scrape()

    assert found("backfill_source_up", source="redis") == 1
    assert found("backfill_source_up", source="ledger") == 0


def test_an_idle_connection_is_closed_without_a_traceback(alone: Backfill, export: Export) -> None:
    exporter = export(alone)
    port = int(exporter.url.rsplit(":", 1)[1].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=120) as silent:
        assert silent.recv(1) == b""  # the server has closed the connection

    exporter.process.terminate()
    _, errors = exporter.process.communicate(timeout=PATIENCE)

    assert errors == ""


def test_the_road_of_a_run_adds_up(backfill: Backfill, worker: Worker, inhabited: Host, export: Export) -> None:
    run = backfill.json("run", "--apply", "--limit", "500")["run_id"]
    road = backfill.json("status", run)["road"]

    found = export(backfill).wait_for_sample("backfill_enqueued_items", road["enqueued"], run=run)

    assert found("backfill_eligible_items", run=run) == road["eligible"]
    assert found("backfill_done_items", run=run, by="at_once") == road["at_once"]
    waiting = [found("backfill_waiting_items", run=run, state=state) for state in road["jobs"]["waiting"]]
    assert sum(each or 0 for each in waiting) == road["enqueued"]
    assert found("backfill_without_result_items", run=run, reason="failed") == 0
