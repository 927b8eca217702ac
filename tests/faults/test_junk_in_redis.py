"""Junk under the keys that commands and the watchdog read: they still work, or refuse in one line."""

from collections.abc import Iterator
from typing import Any

import pytest
from faults.stage import Beat, MakeStage, Stage
from harness import wait_for
from long_forms import long

from sandbox.servers import Redis

JUNK = ["x", "", "[]", "{}", '{"headers": 7}', '{"headers": {"id": ["x"]}}', b"\xff\x00", "[1, 2, 3]", "[" * 50_000]


@pytest.fixture(scope="module")
def halted(make_stage: MakeStage, own_redis: Redis) -> Iterator[Stage]:
    """A run without workers, so that Redis doesn't change by itself."""
    stage = make_stage(redis_url=own_redis.url)
    stage.staff(1)
    stage.sabotage.plan("taken up", "kill worker", page=3)
    stage.follow("--page-delay-ms", "50")
    wait_for(lambda: stage.workers[0].process.poll() is not None, what="the worker to end")
    yield stage
    stage.close()


@pytest.fixture
def stage(halted: Stage) -> Stage:
    with halted.redis() as client:
        client.flushall()
    return halted


def litter(stage: Stage) -> None:
    """Put junk into the queue and among the unacknowledged messages."""
    with stage.redis() as client:
        client.lpush(stage.queue, *JUNK)
        client.hset("unacked", mapping={f"tag-{number}": junk for number, junk in enumerate(JUNK)})
        client.zadd("unacked_index", {f"tag-{number}": 1 for number in range(len(JUNK))})


def misuse(stage: Stage) -> None:
    """Put strings in place of lists, hashes and sorted sets."""
    name = stage.backfill.environment["BACKFILL_QUEUE"]
    (run,) = stage.rows("SELECT id FROM backfill.run")
    with stage.redis() as client:
        for key in (stage.queue, "unacked", "unacked_index", f"backfill:rate:{name}:waiting"):
            client.set(key, "x")
        for lane in (1, 2):
            client.set(f"backfill:cursor:{run['id']}:{lane}", "x")


@pytest.mark.parametrize("spoil", [litter, misuse])
@pytest.mark.parametrize(
    "command",
    [["status"], ["doctor"], *long(["status", "--json"], ["rate"], ["rate", "none"], ["events"], ["dead-letters"])],
)
def test_commands_still_work_amid_junk(stage: Stage, command: list[str], spoil: Any) -> None:
    spoil(stage)

    done = stage.backfill(*command)

    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == (1 if command == ["doctor"] else 0), done.stderr + done.stdout  # no worker is online


@pytest.mark.parametrize("spoil", [misuse, *long(litter)])
def test_a_run_resumes_amid_junk_and_does_every_lead_once(make_stage: MakeStage, spoil: Any) -> None:
    with Redis() as redis:
        stage = make_stage(redis_url=redis.url)
        stage.staff(1)
        run = stage.follow("--page-delay-ms", "50")
        stage.wait_for_pages(4)
        stage.workers[0].kill()
        with stage.redis() as client:
            client.flushall()
        spoil(stage)

        stage.staff(1)
        beat = Beat.start(stage.backfill)
        ended = run.end()
        beat.stop()

        stage.assert_done_once(ended)
        assert "Traceback" not in stage.logs()
        stage.close()


@pytest.mark.parametrize("command", [["rate"], ["run", "--apply", "--force"]])
def test_a_rate_key_of_the_wrong_type_is_a_one_line_error(stage: Stage, command: list[str]) -> None:
    name = stage.backfill.environment["BACKFILL_QUEUE"]
    with stage.redis() as client:
        client.set(f"backfill:rate:{name}", "x")

    done = stage.backfill(*command)

    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout
    assert "Set it again: backfill rate none" in " ".join((done.stderr + done.stdout).split())
