"""Redis freezes, refuses or drops connections for a while: workers wait, then consume messages again."""

import json
import re
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from faults.breaking import made_a_replica, suspended
from faults.stage import Beat, MakeStage, Stage
from harness import wait_for
from kombu import Connection
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from vanishing import vanishing

from backfill_tasks.worker.app import app
from backfill_tasks.worker.events import Dispatcher
from sandbox.servers import Redis

OURS = "backfill_tasks.worker.transport:Transport"


@pytest.fixture
def stage(own_shared_stage: Stage) -> Stage:
    """A stage on the module's Redis, with one worker of one child, and without beat."""
    stage = own_shared_stage
    stage.restore()
    stage.keep_workers(0)
    stage.start_worker(concurrency=1)
    return stage


@pytest.mark.long
def test_a_timed_out_acknowledgement_frees_the_workers_slot(stage: Stage, own_redis: Redis) -> None:
    (worker,) = stage.workers
    stage.sabotage.plan("cursor moved", "block", page=2)
    run = stage.follow("--lanes", "1")
    stage.sabotage.wait_until_reached("cursor moved")

    with suspended(own_redis.pid or 0):
        stage.sabotage.release("cursor moved")
        wait_for(lambda: "didn't accept 1 ack" in worker.output, what="the acknowledgement to time out")

    stage.assert_done_once(run.end())


def test_a_frozen_redis_does_not_keep_the_lane_locked(own_stage: MakeStage, own_redis: Redis) -> None:
    # A long timeout, so that PostgreSQL doesn't release the lock before the test gives up.
    stage = own_stage(redis_url=own_redis.url, BACKFILL_STATEMENT_TIMEOUT_MS="600000")
    worker = stage.start_worker(concurrency=1, beat=True)
    stage.sabotage.plan("lane locked", "block", page=3)
    run = stage.follow("--lanes", "1")
    stage.sabotage.wait_until_reached("lane locked")
    assert not is_free(stage)

    with suspended(own_redis.pid or 0):
        stage.sabotage.release("lane locked")
        wait_for(lambda: is_free(stage), what="the lane's lock to be released")
        assert "page postponed" not in worker.output  # the worker still waits for Redis, but without the lock

    stage.assert_done_once(run.end())


def is_free(stage: Stage) -> bool:
    """Return whether the row of the only lane is unlocked."""
    return bool(stage.rows("SELECT FROM backfill.lane FOR UPDATE SKIP LOCKED"))


def test_undeliverable_events_raise_in_the_loop_only(own_redis: Redis) -> None:
    asked: list[None] = []
    with Connection(own_redis.url) as connection:
        events = Dispatcher(connection, app=app, buffer_group=["task"], on_send_buffered=lambda: asked.append(None))
        own_redis.kill()
        try:
            for _ in range(100):
                events.send("task-succeeded", uuid="a page's")

            assert asked
            with pytest.raises(connection.connection_errors):
                events.flush()
            with pytest.raises(connection.connection_errors):
                events.send("worker-heartbeat")
            events.send("worker-offline")
        finally:
            own_redis.start()


def test_an_undeliverable_reply_does_not_block_the_worker(own_redis: Redis) -> None:
    raised: list[Exception] = []

    def reply() -> None:
        try:
            app.control.mailbox.Node("me", channel=channel).reply({"ok": "pong"}, "reply.pidbox", "asker", "ticket")
        except connection.connection_errors as error:
            raised.append(error)

    with Connection(own_redis.url, transport=OURS) as connection:
        channel = connection.channel()
        channel.client.ping()
        own_redis.kill()
        try:
            threading.Thread(target=reply, daemon=True).start()

            wait_for(lambda: raised, what="the reply to be given up")
        finally:
            own_redis.start()


@pytest.mark.long
def test_task_events_are_sent_promptly_after_broken_connections(stage: Stage) -> None:
    run = stage.follow("--lanes", "1", "--page-delay-ms", "20")
    with ExitStack() as stack:
        client = stack.enter_context(stage.redis())
        # A message that a killed connection had just taken is lost: the watchdog sends it again.
        stack.callback(Beat.start(stage.backfill).stop)
        for number in range(1, 6):
            stage.wait_for_pages(number)
            client.client_kill_filter(_type="normal", skipme=True)
        stage.assert_done_once(run.end())
        news = client.pubsub(ignore_subscribe_messages=True)
        news.psubscribe("*celeryev*")

        stage.run("--lanes", "1", "--limit", "5000", "--rescore-all", "--force")

        wait_for(lambda: "task-succeeded" in heard(news), what="news of the page")


def heard(news: PubSub) -> str:
    """Return the workers' next event or batch of events; "" if none arrives within a second."""
    message = news.get_message(timeout=1.0)
    return b64decode(json.loads(message["data"])["body"]).decode() if message else ""


@pytest.mark.long
def test_workers_and_beat_survive_a_redis_that_refuses_writes(stage: Stage, own_redis: Redis) -> None:
    (worker,) = stage.workers
    beat = Beat.start(stage.backfill)
    run = stage.follow("--lanes", "1", "--page-delay-ms", "50")
    stage.wait_for_pages(2)

    try:
        with refusing(stage):
            # redis-py drops the code READONLY from a pipeline's error.
            wait_for(lambda: re.search("READONLY|read only replica", worker.output), what="the worker to be refused")
            stage.backfill("doctor")  # takes a few more seconds
        stage.assert_done_once(run.end())
        assert (worker.process.poll(), beat.process.poll()) == (None, None)
    finally:
        beat.stop()


@pytest.mark.long
def test_workers_recover_from_repeated_redis_freezes_at_once(own_shared_stage: Stage, own_redis: Redis) -> None:
    stage = own_shared_stage
    stage.restore()
    workers = stage.keep_workers(2)
    beat = Beat.start(stage.backfill)
    run = stage.follow("--lanes", "4", "--limit", "5", "--page-delay-ms", "100")
    stage.wait_for_pages(8)

    try:
        for _ in range(3):
            timed_out = {worker.log: worker.output.count("Timeout reading") for worker in workers}
            with suspended(own_redis.pid or 0):
                wait_for(
                    lambda before=timed_out: all(w.output.count("Timeout reading") > before[w.log] for w in workers),
                    what="both workers to notice",
                )
            done = {worker.log: worker.output.count("page committed") for worker in workers}
            wait_for(
                lambda before=done: all(w.output.count("page committed") > before[w.log] for w in workers),
                what=f"both workers to do pages: {[worker.log for worker in workers]}",
            )
        stage.assert_done_once(run.end())
        assert [each.process.poll() for each in (*workers, beat)] == [None, None, None]
    finally:
        beat.stop()


@pytest.mark.long
def test_silent_redis_connections_are_replaced(own_stage: MakeStage, own_redis: Redis) -> None:
    with vanishing(own_redis.url) as (proxy, url):
        stage = own_stage(redis_url=url)
        stage.start_worker(beat=True)
        run = stage.follow("--lanes", "4", "--limit", "5", "--page-delay-ms", "100")
        stage.wait_for_pages(8)

        for _ in range(2):
            assert proxy.vanish()
            pages = len(stage.rows("SELECT FROM backfill.page"))
            wait_for(
                lambda before=pages: len(stage.rows("SELECT FROM backfill.page")) >= before + 20,
                what=f"pages: {stage.logs()[-3000:]}",
            )

        stage.assert_done_once(run.end())
        assert [worker.process.poll() for worker in stage.workers] == [None]


def test_a_publisher_with_a_closed_channel_opens_another(own_redis: Redis) -> None:
    with Connection(own_redis.url, transport=OURS) as connection, connection.Producer() as producer:
        assert not producer.channel.closed
        connection.collect()

        producer.publish({}, routing_key="elsewhere", retry=True)

        with connection.channel() as channel:
            assert channel.client.delete("elsewhere") == 1


def test_a_channel_of_a_closed_connection_raises_a_connection_error(own_redis: Redis) -> None:
    with Connection(own_redis.url, transport=OURS) as connection:
        channel = connection.channel()
        transport = channel.connection
        connection.collect()
        channel.connection = transport  # as if a reset had opened the channel while its connection was closed

        with pytest.raises(RedisConnectionError, match="closed with its connection"):
            _ = channel.subclient


def test_waiting_for_a_broadcast_times_out(own_redis: Redis) -> None:
    options = {"socket_timeout": 1}
    with Connection(own_redis.url, transport=OURS, transport_options=options) as connection:
        subscribed = connection.channel().subclient
        subscribed.psubscribe("nobody.speaks.*")
        assert subscribed.parse_response()

        with pytest.raises(RedisTimeoutError):  # without a timeout, this call and a worker's loop would hang
            subscribed.parse_response()


def test_the_watchdog_needs_no_free_child_or_slot(stage: Stage) -> None:
    stage.sabotage.plan("taken up", "block", lane=2, page=1)
    stage.sabotage.plan("watchdog done", "block")
    run = stage.follow()
    stage.sabotage.wait_until_reached("taken up")

    beat = Beat.start(stage.backfill)
    try:
        stage.sabotage.wait_until_reached("watchdog done")
    finally:
        beat.stop()

    stage.sabotage.clear()
    stage.assert_done_once(run.end())


@contextmanager
def refusing(stage: Stage) -> Iterator[None]:
    """Make the stage's Redis a replica, as in a failover: it answers, but refuses every write."""
    with stage.redis() as client:
        client.config_set("replica-serve-stale-data", "yes")
        with made_a_replica(client):
            yield
