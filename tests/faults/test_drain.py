"""The drain survives its workers, and does no harm while a server is away."""

import os
import signal
from collections.abc import Iterator

import pytest
from cron_route import SECRET, Route, Runner
from faults.breaking import suspended
from faults.stage import Beat, MakeStage, Stage
from harness import Worker, wait_for, wait_while_moving
from vanishing import vanishing

from sandbox.servers import Postgres, Redis

#: The jobs of the stage's leads, all due.
DUE = """
INSERT INTO "BackgroundJob" (id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt")
SELECT
  'drain-' || lead.id, 'LEAD_SCORING_POST_PROCESS', 'PENDING', 'lead_scoring_backfill:' || lead.id, lead."clientId",
  lead.id, message.id, now() AT TIME ZONE 'UTC' - interval '1 minute', now()
FROM "Lead" AS lead
CROSS JOIN LATERAL (SELECT id FROM "Message" WHERE "leadId" = lead.id LIMIT 1) AS message
ORDER BY lead.id LIMIT 120
"""

CALLED = "the host's runner was called"


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that no other test uses."""
    with Postgres() as started:
        yield started


def stage_for_the_drain(make: MakeStage, **arguments: str) -> Stage:
    """Make a stage with 120 due jobs whose workers have the secret; a call takes 15 s at the longest."""
    made = make(BACKFILL_CRON_SECRET=SECRET, BACKFILL_CRON_CALL_SECONDS="15", **arguments)
    with made.database() as connection:
        connection.execute('DELETE FROM "BackgroundJob"')
        connection.execute(DUE.encode())
    return made


@pytest.fixture
def drained(own_stage: MakeStage) -> Iterator[Stage]:
    """Such a stage with beat."""
    made = stage_for_the_drain(own_stage)
    beat = Beat.start(made.backfill)
    yield made
    beat.stop()


def start_drain(stage: Stage, route: Route) -> None:
    started = stage.backfill("drain", "--url", route.url, "--every", "1s", "--parallel", "2", "--until-done")
    assert started.returncode == 0, started.stderr


def the_caller(stage: Stage) -> Worker:
    """Return the worker that makes the calls, once it has made one."""
    return wait_for(lambda: next((each for each in stage.workers if CALLED in each.output), None), what="a call")  # type: ignore[return-value]


def wait_until_done(stage: Stage, runner: Runner) -> None:
    def is_done() -> bool:
        return stage.backfill.json("drain", "--status")["kind"] == "done"

    wait_while_moving(is_done, what="the drain to end", progress=lambda: len(runner.done))


def assert_done_once(stage: Stage, runner: Runner) -> None:
    assert len({job for job, _ in runner.done}) == len(runner.done) == 120
    assert stage.rows("""SELECT FROM "BackgroundJob" WHERE status <> 'SUCCEEDED'""") == []


@pytest.mark.long
def test_another_worker_takes_over_from_one_that_is_killed_in_the_middle_of_its_calls(drained: Stage) -> None:
    runner = Runner(drained.backfill.database_url, limit=10, job_seconds=0.2)
    with Route(runner.call).open() as route:
        drained.staff(2)
        start_drain(drained, route)
        caller = the_caller(drained)
        wait_for(lambda: route.in_flight == 2, what="two calls in flight")

        caller.kill()

        wait_until_done(drained, runner)

    assert_done_once(drained, runner)
    assert CALLED in next(each for each in drained.workers if each is not caller).output
    # The host goes on with the calls of a caller that is gone, so these count until they must have ended.
    assert route.most_in_flight <= 2


@pytest.mark.long
def test_a_caller_that_freezes_is_replaced_and_starts_no_call_when_it_wakes(drained: Stage) -> None:
    runner = Runner(drained.backfill.database_url, limit=5, job_seconds=0.2)
    with Route(runner.call).open() as route:
        drained.staff(2)
        start_drain(drained, route)
        caller = the_caller(drained)
        (other,) = (each for each in drained.workers if each is not caller)

        os.killpg(caller.process.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: CALLED in other.output, what="the other worker to call")
        finally:
            os.killpg(caller.process.pid, signal.SIGCONT)

        wait_until_done(drained, runner)

    assert_done_once(drained, runner)
    assert route.most_in_flight <= 2


@pytest.mark.long
def test_a_redis_that_freezes_holds_up_no_call(own_stage: MakeStage, own_redis: Redis) -> None:
    stage = stage_for_the_drain(own_stage, redis_url=own_redis.url)
    runner = Runner(stage.backfill.database_url, limit=5, job_seconds=0.05)
    with Route(runner.call).open() as route:
        stage.start_worker(beat=True)
        start_drain(stage, route)
        wait_for(lambda: runner.done, what="a job to be done")

        with suspended(own_redis.pid or 0):
            before = len(route.calls)
            wait_for(lambda: len(route.calls) > before + 2 or len(runner.done) == 120, what="calls meanwhile")

        wait_until_done(stage, runner)

    assert_done_once(stage, runner)


@pytest.mark.long
def test_a_database_that_falls_silent_in_the_middle_of_a_call_does_no_harm(
    own_stage: MakeStage, own_postgres: Postgres
) -> None:
    with vanishing(own_postgres.url) as (proxy, url):
        stage = stage_for_the_drain(own_stage, database_url=url, BACKFILL_STATEMENT_TIMEOUT_MS="1000")
        direct = own_postgres.url.rpartition("/")[0] + "/" + stage.backfill.database_url.rpartition("/")[2]
        runner = Runner(direct, limit=5, job_seconds=0.2)
        with Route(runner.call).open() as route:
            stage.start_worker(beat=True)
            start_drain(stage, route)
            wait_for(lambda: route.in_flight, what="a call in flight")

            assert proxy.vanish()

            wait_until_done(stage, runner)

    assert_done_once(stage, runner)
    assert route.most_in_flight <= 2
    assert "Traceback" not in stage.logs()
