"""A stalled lane has a true reason in `status`, `watch` and the JSON, whichever part is broken."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from faults.breaking import suspended
from faults.stage import Beat, MakeStage, Stage
from harness import PATIENCE, Worker, end, wait_for

from backfill_tasks.engine.model import RunId
from sandbox.servers import Redis

if TYPE_CHECKING:
    import subprocess

#: A lane's reason: its kind and its text.
Described = tuple[str | None, str]

#: Long, so that no watchdog interferes.
PATIENT = {"BACKFILL_STANDING_SECONDS": "3600"}


@pytest.fixture
def redis_server() -> Iterator[Redis]:
    """A Redis that the test may break."""
    with Redis() as started:
        yield started


def start_run(stage: Stage, *arguments: str) -> RunId:
    """Start a detached run in pages of 50 leads."""
    done = stage.backfill.json("run", "--apply", "--detach", "--limit", "50", *arguments)
    return RunId(done["run_id"])


def lane_of(content: dict[str, Any], number: int = 1) -> Described:
    lane = content["lanes"][number - 1]
    return lane["reason_kind"], lane["reason"] or ""


def wait_for_kind(stage: Stage, kind: str, *, lane: int = 1) -> str:
    """Call `status` until a lane has a reason of this kind, and return the reason."""
    seen: list[Described] = []

    def has_come() -> bool:
        seen.append(lane_of(stage.backfill.json("status"), lane))
        return seen[-1][0] == kind

    try:
        wait_for(has_come, what=f"a reason of kind {kind}")
    except AssertionError as error:
        raise AssertionError(f"{error}; seen: {list(dict.fromkeys(seen))}") from None
    return seen[-1][1]


@contextmanager
def group_stopped(worker: Worker) -> Iterator[None]:
    """Suspend a worker and its children, like Ctrl-Z."""
    os.killpg(worker.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(worker.process.pid, signal.SIGCONT)


def test_the_reason_is_no_worker_with_an_empty_fleet(own_stage: MakeStage) -> None:
    stage = own_stage()
    run = start_run(stage, "--lanes", "2")

    shown = stage.backfill.json("status", run)
    kinds = {lane_of(shown, number) for number in (1, 2)}

    ((kind, reason),) = kinds
    assert kind == "no_worker"
    assert "no worker is online, and its page waits in the queue" in reason
    assert "backfill worker" in reason


@pytest.mark.long
def test_the_reason_is_a_frozen_worker_with_the_message(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    worker = stage.start_worker()
    stage.sabotage.plan("taken up", "block", page=3)
    start_run(stage, "--lanes", "1")
    stage.sabotage.wait_until_reached("taken up")

    with group_stopped(worker):
        reason = wait_for_kind(stage, "workers_frozen")

    assert "1 of 1 connected workers doesn't answer" in reason
    assert "taken by a worker and not acknowledged" in reason


@pytest.mark.long
def test_a_worker_frozen_mid_page_is_found_by_its_transaction(own_stage: MakeStage) -> None:
    # PostgreSQL ends an idle transaction after this time; a status on a busy machine must be faster.
    stage = own_stage(**PATIENT, BACKFILL_STATEMENT_TIMEOUT_MS="600000")
    worker = stage.start_worker()
    stage.sabotage.plan("lane locked", "block", page=3)
    start_run(stage, "--lanes", "1")
    stage.sabotage.wait_until_reached("lane locked")

    with group_stopped(worker):
        reason = wait_for_kind(stage, "page_stuck")

    assert "its worker process is stopped or stuck" in reason


def test_the_reason_is_a_lost_message_and_the_watchdog_fixes_it(own_stage: MakeStage) -> None:
    stage = own_stage(BACKFILL_STANDING_SECONDS="3600")
    stage.start_worker()
    beat = Beat.start(stage.backfill)
    try:
        lose_a_message(stage)
        reason = wait_for_kind(stage, "message_lost")
    finally:
        beat.stop()

    assert "its page's message is in no queue, and no online worker has it" in reason
    assert "The watchdog reseeds the lane within about" in reason


@pytest.mark.long
def test_a_lost_message_without_a_watchdog_names_the_command_to_fix_it(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    stage.start_worker()
    run = lose_a_message(stage)

    reason = wait_for_kind(stage, "no_watchdog")

    assert "No watchdog has run: start beat (backfill beat)" in reason
    assert f"or type `backfill resume {run}`" in reason
    stage.backfill("resume", run)
    assert stage.backfill.json("watch", run)["state"] == "complete"


def lose_a_message(stage: Stage) -> RunId:
    """Start a run and lose the message of its third page while the worker is idle."""
    stage.sabotage.plan("page recorded", "block", page=2)
    run = start_run(stage, "--lanes", "1")
    stage.sabotage.wait_until_reached("page recorded")
    worker = stage.workers[0]
    stage.sabotage.plan("next sent", "block", page=2)
    stage.sabotage.release("page recorded")
    stage.sabotage.wait_until_reached("next sent")
    # The third page's message is either in the queue or with the other child, so delete it in both places.
    worker.kill()
    with stage.redis() as client:
        client.delete(stage.queue, "unacked", "unacked_index")
    stage.sabotage.clear()
    stage.staff(1)
    return run


def test_the_session_locking_the_lanes_row_is_named(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    stage.start_worker()
    stage.sabotage.plan("taken up", "block", page=3)
    start_run(stage, "--lanes", "1")
    stage.sabotage.wait_until_reached("taken up")

    with psycopg.connect(stage.backfill.database_url, application_name="psql") as forgotten:
        forgotten.execute("UPDATE backfill.lane SET reason = reason")
        stage.sabotage.release("taken up")
        reason = wait_for_kind(stage, "ledger_locked")
        pid = forgotten.info.backend_pid

    assert f"its row in the ledger is locked by session {pid}, psql, idle in transaction" in reason
    assert f"SELECT pg_terminate_backend({pid})" in reason


@pytest.mark.long
def test_the_session_locking_a_lead_is_named(own_stage: MakeStage) -> None:
    stage = own_stage(BACKFILL_LOCK_TIMEOUT_MS="60000", BACKFILL_STATEMENT_TIMEOUT_MS="60000", **PATIENT)
    stage.start_worker()

    with psycopg.connect(stage.backfill.database_url, application_name="host") as host:
        host.execute('SELECT FROM "Lead" FOR UPDATE')
        start_run(stage, "--lanes", "1")
        reason = wait_for_kind(stage, "lock_wait")
        pid = host.info.backend_pid

    assert f"its page waits for a lock of session {pid}, host, idle in transaction" in reason


@pytest.mark.long
def test_the_reason_is_a_retry_after_a_lock_timeout(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    stage.start_worker()

    with psycopg.connect(stage.backfill.database_url) as host:
        host.execute('SELECT FROM "Lead" FOR UPDATE')
        start_run(stage, "--lanes", "1")
        reason = wait_for_kind(stage, "retry")

    assert "lock timeout (55P03)" in reason


def test_the_reason_is_the_rate_limit(own_stage: MakeStage) -> None:
    stage = own_stage(BACKFILL_VISIBILITY_TIMEOUT="604800", **PATIENT)
    stage.start_worker()
    stage.backfill("rate", "1/h")
    start_run(stage, "--lanes", "2")

    reasons = [wait_for_kind(stage, "rate", lane=2 if stage.lane(1)["page"] else 1)]

    assert reasons == ["waits for the rate of all workers together, 1/h. To change it: backfill rate"]


@pytest.mark.long
def test_workers_consuming_another_queue_are_named(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    worker = stage.start_worker()
    consume_another_queue(stage)
    wait_for(lambda: "elsewhere" in str(queues(stage)) and stage.queue not in queues(stage), what="the other queue")
    start_run(stage, "--lanes", "1")

    reason = wait_for_kind(stage, "no_consumer")

    assert worker.process.poll() is None
    assert f"1 worker is online, but none consumes the queue {stage.queue}" in reason
    assert "consumes elsewhere" in reason


def consume_another_queue(stage: Stage) -> None:
    control(stage, "add_consumer", queue="elsewhere")
    control(stage, "cancel_consumer", queue=stage.queue)


def queues(stage: Stage) -> list[str]:
    answers = control(stage, "active_queues")
    return [queue["name"] for answer in answers for queues in answer.values() for queue in queues]


def control(stage: Stage, command: str, **arguments: Any) -> list[dict[str, Any]]:
    """Send one of Celery's control commands to the workers."""
    from celery import Celery  # noqa: PLC0415

    with Celery(broker=stage.backfill.environment["REDIS_URL"], set_as_current=False) as sender:
        sender.conf.control_exchange = stage.backfill.environment["BACKFILL_QUEUE"]
        answers: list[dict[str, Any]] = sender.control.broadcast(command, arguments, reply=True, timeout=3) or []
        return answers


@pytest.mark.long
def test_the_reason_is_a_busy_fleet_without_a_free_process(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    stage.start_worker(concurrency=1)
    stage.sabotage.plan("lane locked", "block", lane=1, page=1)
    start_run(stage, "--lanes", "2")
    stage.sabotage.wait_until_reached("lane locked")

    reason = wait_for_kind(stage, "workers_busy", lane=2)

    assert "free" in reason


class TestRedis:
    def test_the_reason_is_a_stopped_redis_and_status_still_answers(
        self, own_stage: MakeStage, redis_server: Redis
    ) -> None:
        stage = own_stage(redis_url=redis_server.url, **PATIENT)
        run = start_run(stage, "--lanes", "1")
        redis_server.kill()

        done = stage.backfill("status", run)

        assert done.returncode == 0, done.stderr
        assert "Redis doesn't answer" in done.stdout
        assert lane_of(stage.backfill.json("status"))[0] == "redis_unreachable"

    @pytest.mark.long
    def test_the_reason_is_a_frozen_redis_and_status_still_answers(
        self, own_stage: MakeStage, redis_server: Redis
    ) -> None:
        stage = own_stage(redis_url=redis_server.url, **PATIENT)
        start_run(stage, "--lanes", "1")

        with suspended(redis_server.pid):
            assert wait_for_kind(stage, "redis_unreachable")

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("commands", "refusal"),
        [
            ([("CONFIG", "SET", "maxmemory", "1")], "OOM"),
            ([("REPLICAOF", "127.0.0.1", "1")], "READONLY"),
            ([("CONFIG", "SET", "min-replicas-to-write", "1")], "NOREPLICAS"),
        ],
    )
    def test_the_reason_is_a_redis_that_refuses_writes(
        self, own_stage: MakeStage, redis_server: Redis, commands: list[tuple[str, ...]], refusal: str
    ) -> None:
        stage = own_stage(redis_url=redis_server.url, **PATIENT)
        start_run(stage, "--lanes", "1")
        with stage.redis() as client:
            for command in commands:
                client.execute_command(*command)

        reason = wait_for_kind(stage, "redis_refuses_writes")

        assert f"Redis refuses writes: {refusal}" in reason


def test_the_reason_is_the_pause_of_a_paused_run(own_stage: MakeStage) -> None:
    stage = own_stage()
    run = start_run(stage, "--lanes", "1")
    stage.backfill("pause", run)

    kind, reason = lane_of(stage.backfill.json("status", run))

    assert kind == "paused"
    assert reason == f"the run is paused: paused by command. `backfill resume {run}` continues it"


def test_the_reason_is_the_canary_for_its_other_lanes(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    run = start_run(stage, "--lanes", "2", "--canary")

    kind, reason = lane_of(stage.backfill.json("status", run), 2)

    assert kind == "single_batch"
    assert f"To walk it: backfill resume {run}" in reason


@pytest.mark.long
def test_the_reason_is_a_read_only_database(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    stage.start_worker()
    start_run(stage, "--lanes", "1", "--page-delay-ms", "500")
    server, _, name = stage.backfill.database_url.rpartition("/")

    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            reason = wait_for_kind(stage, "database_read_only")
        finally:
            admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())

    assert reason.startswith("PostgreSQL accepts no writes")


@pytest.mark.long
def test_the_reason_is_the_page_delay(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    stage.start_worker()
    start_run(stage, "--lanes", "1", "--page-delay-ms", "600000")

    assert "waits 600 s after each page (--page-delay-ms)" in wait_for_kind(stage, "page_delay")


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """Return what a process has said once it has said this, line by line; kill it if it doesn't."""
    assert process.stderr is not None
    overdue = threading.Timer(PATIENCE, process.kill)
    overdue.start()
    try:
        said = ""
        while text not in said:
            line = process.stderr.readline()
            assert line, f"it ended without {text!r}: {said}"
            said += line
        return said
    finally:
        overdue.cancel()


@pytest.mark.long
def test_a_stalled_lane_is_reported_while_another_moves(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    stage.start_worker()
    stage.sabotage.plan("page recorded", "block", lane=1, page=2)
    run = start_run(stage, "--lanes", "2", "--page-delay-ms", "300")
    stage.sabotage.wait_until_reached("page recorded")

    watching = stage.backfill.popen("watch", run)
    try:
        read_until(watching, "lane 1, no page for")
        listed = stage.backfill.json("runs")["runs"][0]
    finally:
        end(watching)
        watching.communicate()

    assert lane_of(listed, 1)[0] in {"page_at_work", "page_stuck"}
    assert lane_of(listed, 2)[0] in {None, "page_delay"}


@pytest.mark.long
def test_watch_names_the_error_of_a_refusing_database(own_stage: MakeStage) -> None:
    stage = own_stage(**PATIENT)
    run = start_run(stage, "--lanes", "1")
    name = stage.backfill.database_url.rsplit("/", 1)[1]
    elsewhere = stage.backfill.database_url.rsplit("/", 1)[0] + "/postgres"
    watching = stage.backfill.popen("watch", run)
    try:
        read_until(watching, "\n")
        with psycopg.connect(elsewhere, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            try:
                said = read_until(watching, "Trying again.")
                refused = stage.backfill("status", run)
            finally:
                admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    finally:
        end(watching)
        watching.communicate()

    assert "The database does not answer: " in " ".join(said.split())
    assert refused.returncode == 1
    assert "not currently accepting connections" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
