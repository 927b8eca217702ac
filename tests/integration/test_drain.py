"""The drain, with the host's cron route as a real server and the ledger in a real database."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cron_route import NEWER, OLDER, SECRET, Reply, Route, Runner, worked
from harness import UNBOUNDED, wait_for
from integration.site import Site

from backfill_tasks import settings
from backfill_tasks.cli.render.drain import overview
from backfill_tasks.client import Client
from backfill_tasks.drain import ledger
from backfill_tasks.drain.session import look_after


class Drain:
    """The drain of a site: a client that orders, and workers that take turns in this process."""

    def __init__(self, site: Site) -> None:
        self.site = site
        values = {**UNBOUNDED, "DATABASE_URL": site.url, "REDIS_URL": site.redis_url, "BACKFILL_CRON_SECRET": SECRET}
        self.settings = settings.load({**values, "BACKFILL_CRON_CALL_SECONDS": "5"})
        self.client = Client(self.settings)

    def start(self, route: Route, **options: Any) -> None:
        self.client.drain(route.url, **{"every": 1, **options})

    def turn(self) -> None:
        """Take a turn as a worker does on beat's message; it ends when there is nothing to call for."""
        look_after(self.site.parts, self.settings)

    def turn_until(self, state: str) -> None:
        """Take turns until the drain is in a state."""

        def reached() -> bool:
            self.turn()
            return self.state == state

        wait_for(reached, what=f"the drain to be {state}")

    @property
    def seen(self) -> dict[str, Any]:
        return self.client.drain_status().as_json()

    @property
    def state(self) -> str:
        return str(self.seen["state"])

    @property
    def events(self) -> list[str]:
        return [each["event"] for each in self.seen["events"]]

    def hurry(self) -> None:
        """Let the next call start at once."""
        self.site.host.do("UPDATE backfill.drain SET next_call_at = now()")

    def close(self) -> None:
        self.client.close()


@pytest.fixture
def drain(site: Site) -> Iterator[Drain]:
    site.host.do("DELETE FROM backfill.drain; DELETE FROM backfill.drain_call; DELETE FROM backfill.drain_total")
    site.host.do("DELETE FROM backfill.event WHERE run_id IS NULL")
    made = Drain(site)
    yield made
    made.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[], Reply]], Route]]:
    """Opens cron routes that are closed with the test."""
    opened = []

    def open_route(answer: Callable[[], Reply]) -> Route:
        context = Route(answer).open()
        opened.append(context)
        return context.__enter__()

    yield open_route
    for context in opened:
        context.__exit__(None, None, None)


Serve = Callable[[Callable[[], Reply]], Route]


def add_due_jobs(site: Site, number: int, *, due: datetime | None = None) -> None:
    at = due or datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1)
    for lead in range(number):
        site.host.add_leads(f"lead-{lead:03d}")
        site.host.add_job(
            f"lead-{lead:03d}", "PENDING", runAt=at, attempts=0, lockedAt=None, lockedBy=None, finishedAt=None
        )


def add_live_job(site: Site, *, seconds: float) -> None:
    site.host.add_leads("live")
    at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)
    site.host.add_job("live", "PENDING", id="live", dedupeKey="live", type="EMAIL_INBOUND_POST_PROCESS", runAt=at)


@pytest.mark.parametrize("select", [OLDER, NEWER])
def test_due_jobs_are_done_once_each_and_then_it_ends(site: Site, drain: Drain, serve: Serve, select: str) -> None:
    add_due_jobs(site, 35)
    runner = Runner(site.url, select=select, job_seconds=0.01)
    drain.start(serve(runner.call), parallel=3, until_done=True)

    drain.turn_until("stopped")

    assert sorted(job for job, _ in runner.done) == [f"job-lead-{lead:03d}" for lead in range(35)]
    assert site.host.values('SELECT DISTINCT status::text FROM "BackgroundJob"') == ["SUCCEEDED"]
    assert drain.seen["kind"] == "done"
    assert drain.seen["jobs"]["succeeded"] == 35
    assert drain.events == ["drain started", "drain stopped"]


def test_no_call_is_made_while_nothing_of_ours_is_due(site: Site, drain: Drain, serve: Serve) -> None:
    add_live_job(site, seconds=30)
    add_due_jobs(site, 1, due=datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1))
    route = serve(worked)
    drain.start(route)

    drain.turn()

    assert route.calls == []
    assert (drain.state, drain.seen["kind"]) == ("waiting", "nothing_due")


def test_it_goes_on_when_a_job_comes_due(site: Site, drain: Drain, serve: Serve) -> None:
    runner = Runner(site.url)
    drain.start(serve(runner.call))
    drain.turn()
    assert runner.done == []

    add_due_jobs(site, 1)
    drain.turn()

    assert len(runner.done) == 1


def test_until_done_waits_for_a_run_that_enqueues_more(site: Site, drain: Drain, serve: Serve) -> None:
    site.host.add_leads("lead-1")
    run = site.start()
    drain.start(serve(worked), until_done=True)

    drain.turn()
    assert drain.state == "waiting"

    site.runs.cancel(run.id)
    drain.turn()
    assert drain.state == "stopped"


def test_until_done_waits_for_a_job_that_the_host_is_at_work_on(site: Site, drain: Drain, serve: Serve) -> None:
    site.host.add_leads("lead-1")
    site.host.add_job("lead-1", "RUNNING")
    drain.start(serve(worked), until_done=True)

    drain.turn()

    assert drain.state == "waiting"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply.json(404), "not_found"),
        (Reply.json(400, message="no"), "refused"),
        (Reply(307, headers=[("Location", "https://login.example.org/?next=x")]), "redirected"),
        (Reply.json(202, mode="dispatch-only"), "dispatched"),
        (Reply.json(202, mode="dispatch-duplicate-suppressed"), "dispatched"),
    ],
)
def test_it_stops_and_says_what_to_do(site: Site, drain: Drain, serve: Serve, reply: Reply, kind: str) -> None:
    add_due_jobs(site, 1)
    route = serve(lambda: reply)
    drain.start(route, parallel=1)

    drain.turn_until("stopped")

    assert drain.seen["kind"] == kind
    assert "again" in drain.seen["reason"] or "Raise" in drain.seen["reason"]
    assert len(route.calls) == 1


def test_a_wrong_secret_stops_it(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    drain.settings = settings.load(
        {"DATABASE_URL": site.url, "REDIS_URL": site.redis_url, "BACKFILL_CRON_SECRET": "another-one"}
    )
    drain.start(serve(worked))

    drain.turn_until("stopped")

    assert drain.seen["kind"] == "unauthorized"
    assert "BACKFILL_CRON_SECRET" in drain.seen["reason"]
    assert "another-one" not in str(drain.seen)


def test_the_secret_goes_to_no_host_but_the_one_of_the_setting(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    values = {"DATABASE_URL": site.url, "REDIS_URL": site.redis_url, "BACKFILL_CRON_SECRET": SECRET}
    drain.settings = settings.load({**values, "BACKFILL_CRON_HOST": "app.example.com"})
    route = serve(worked)
    drain.start(route)

    drain.turn_until("stopped")

    assert route.calls == []
    assert drain.seen["kind"] == "other_host"


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (Reply.json(429), "rate limited"),
        (Reply.json(503, retryable=True), "unavailable"),
        (Reply.json(500, message="\x1b[2JBearer " + SECRET), "server error"),
        (Reply(502, b"<html>Bad gateway</html>"), "server error"),
        (Reply.json(200, success=False, message="no"), "server error"),
        (Reply(200, b"<!doctype html><title>Log in</title>", [("Content-Type", "text/html")]), "malformed"),
        (Reply(200, b"[" * 100_000), "malformed"),
        (Reply(200, b" " * 3_000_000), "malformed"),
        (Reply.json(200, success=True, mode="inline", processed=-1, succeeded=0, failed=0, retried=0), "malformed"),
        (Reply.json(200, success=True, mode="inline", processed="10", succeeded=10, failed=0, retried=0), "malformed"),
        (Reply(200, b'{"success": true, "mode": "inline"}', pause=1), "timed out"),
        (Reply(200, b"{}", seconds=60), "timed out"),
        (Reply(200, b"{}", [("Content-Length", "100")]), "unreachable"),
    ],
)
def test_a_bad_answer_is_not_believed_and_makes_it_back_off(
    site: Site, drain: Drain, serve: Serve, reply: Reply, result: str
) -> None:
    add_due_jobs(site, 1)
    route = serve(lambda: reply)
    drain.start(route, parallel=1)

    drain.turn_until("backing off")

    seen = drain.seen
    assert seen["last_answer"]["result"] == result
    assert seen["jobs"]["processed"] == 0
    assert seen["last_answer"]["shown"].isprintable()
    assert SECRET not in str(seen)
    assert route.most_in_flight == 1
    site.host.do("UPDATE backfill.drain SET next_call_at = now() + interval '1 hour'")
    before = len(route.calls)
    drain.turn()
    assert len(route.calls) == before


def test_a_call_that_starts_late_counts_until_it_has_ended(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    goes_on = threading.Event()

    def slow() -> Reply:
        goes_on.wait(4)
        return worked(1)

    route = serve(slow)
    drain.start(route, parallel=1)
    with ThreadPoolExecutor(1) as pool:
        turn = pool.submit(drain.turn)
        wait_for(lambda: route.calls, what="the call")
        # It was noted longer ago than a call may take, because the machine was busy.
        site.host.do("UPDATE backfill.drain_call SET started_at = started_at - interval '6 s'")
        drain.hurry()
        looked = site.host.values("SELECT looked_at FROM backfill.drain")
        wait_for(lambda: site.host.values("SELECT looked_at FROM backfill.drain") != looked, what="another look")
        calls = len(route.calls)
        drain.client.stop_drain()
        goes_on.set()
        turn.result()

    assert calls == 1


def test_a_host_that_is_down_makes_it_back_off_longer_each_time(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    route = Route(worked)
    with route.open():
        pass
    drain.start(route)
    waits = []
    for failures in range(1, 4):
        drain.hurry()
        wait_for(lambda: drain.turn() or drain.seen["failures"] == failures, what="the call to fail")  # noqa: B023
        waits += site.host.values("SELECT extract(epoch FROM next_call_at - now()) FROM backfill.drain")

    assert drain.seen["kind"] == "unreachable"
    assert waits[0] <= 5
    assert waits[2] > 9


def test_retry_after_is_obeyed_and_a_good_call_ends_the_backoff(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    replies = [Reply.json(429, ("Retry-After", "120")), worked(1)]
    drain.start(serve(lambda: replies.pop(0)))

    drain.turn_until("backing off")
    (wait,) = site.host.values("SELECT extract(epoch FROM next_call_at - now()) FROM backfill.drain")
    assert 100 < wait <= 120

    drain.hurry()
    stop_after(drain, lambda: not replies and drain.seen["failures"] == 0)
    assert drain.seen["calls"] == {"rate limited": 1, "worked": 1}


def stop_after(drain: Drain, condition: Callable[[], bool]) -> None:
    """Let the drain work until a condition holds, then stop it."""
    with ThreadPoolExecutor(1) as pool:
        turn = pool.submit(drain.turn)
        try:
            wait_for(condition, what="the drain to get there")
        finally:
            drain.client.stop_drain()
            turn.result()


def test_a_redirect_is_not_followed(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    thief = serve(worked)
    drain.start(serve(lambda: Reply(302, headers=[("Location", thief.url)])))

    drain.turn_until("stopped")

    assert thief.calls == []


def test_a_live_job_that_waits_pauses_it_and_it_resumes_only_well_below_the_limit(
    site: Site, drain: Drain, serve: Serve
) -> None:
    add_due_jobs(site, 1)
    add_live_job(site, seconds=200)
    route = serve(worked)
    drain.start(route, max_live_wait=100)

    drain.turn()
    assert (drain.state, drain.seen["kind"]) == ("paused", "live_wait")
    assert "over 100 s" in drain.seen["reason"]
    site.host.do("UPDATE backfill.drain SET next_call_at = now() + interval '1 hour'")

    live = """UPDATE "BackgroundJob" SET "runAt" = now() AT TIME ZONE 'UTC' - interval '%s seconds' WHERE id = 'live'"""
    site.host.do(live % 80)
    drain.turn()
    assert drain.state == "paused"
    assert route.calls == []

    site.host.do(live % 40)
    stop_after(drain, lambda: drain.hurry() or len(route.calls) > 0)
    assert drain.events == ["drain started", "drain paused", "drain resumed", "drain stopped"]


def test_a_paused_drain_makes_one_call_a_minute(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    add_live_job(site, seconds=200)
    route = serve(worked)
    drain.start(route, max_live_wait=100)

    for _ in range(4):
        drain.turn()
    (wait,) = site.host.values("SELECT extract(epoch FROM next_call_at - now()) FROM backfill.drain")

    assert len(route.calls) == 1
    assert drain.state == "paused"
    assert 30 < wait <= 60


def test_failing_jobs_pause_it_and_good_ones_resume_it(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    replies = [worked(20, failed=4, retried=6), worked(20, retried=4), *[worked(20)] * 9]
    route = serve(lambda: replies.pop(0))
    drain.start(route, max_failure_rate=0.25)

    drain.turn_until("paused")
    assert drain.seen["reason"] == "10 of the last 20 jobs failed (50%), over 25%"

    drain.hurry()
    drain.turn()
    drain.turn()
    assert drain.state == "paused"
    assert "4 of the last 20 jobs failed (20%)" in drain.seen["reason"]

    drain.hurry()
    stop_after(drain, lambda: drain.hurry() or drain.seen["events"][-1]["event"] == "drain resumed")
    assert drain.seen["jobs"]["failed"] == 4


def test_no_more_calls_are_in_flight_than_ordered_whatever_the_number_of_workers(
    site: Site, drain: Drain, serve: Serve
) -> None:
    add_due_jobs(site, 60)
    runner = Runner(site.url, limit=5, job_seconds=0.05)
    route = serve(runner.call)
    drain.start(route, parallel=2, until_done=True)
    others = [Drain(site.with_settings()) for _ in range(4)]

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda each: each.turn_until("stopped"), [drain, *others]))

    assert route.most_in_flight <= 2
    assert len({job for job, _ in runner.done}) == len(runner.done) == 60
    assert drain.seen["jobs"]["succeeded"] == 60
    for each in others:
        each.close()
        each.site.engine.dispose()


def test_a_lease_is_taken_by_one_of_many(site: Site, drain: Drain, serve: Serve) -> None:
    drain.start(serve(worked))
    start = threading.Barrier(8)

    def take(_: int) -> int | None:
        with site.engine.begin() as connection:
            start.wait()
            return ledger.take(connection, who="somebody")

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(8)))

    assert len([each for each in taken if each is not None]) == 1


def test_a_lease_that_expired_is_taken_by_another_worker_and_the_first_one_no_longer_counts(
    site: Site, drain: Drain, serve: Serve
) -> None:
    add_due_jobs(site, 1)
    goes_on = threading.Event()

    def slow() -> Reply:
        goes_on.wait(4)
        return worked(7)

    route = serve(slow)
    drain.start(route, parallel=1)
    with ThreadPoolExecutor(1) as pool:
        turn = pool.submit(drain.turn)
        wait_for(lambda: route.calls, what="the call")
        site.host.do("UPDATE backfill.drain SET lease_until = now() - interval '1 s'")
        with site.engine.begin() as connection:
            second = ledger.take(connection, who="another worker")
        goes_on.set()
        turn.result()

    assert second is not None
    wait_for(lambda: site.host.values("SELECT ended_at FROM backfill.drain_call") != [None], what="the call's end")
    assert drain.seen["jobs"]["processed"] == 0
    assert drain.seen["holder"] == "another worker"


def test_calls_of_a_killed_worker_count_as_in_flight_until_they_must_have_ended(
    site: Site, drain: Drain, serve: Serve
) -> None:
    add_due_jobs(site, 1)
    route = serve(worked)
    drain.start(route, parallel=1)
    site.host.do("INSERT INTO backfill.drain_call (generation) VALUES (0)")

    drain.turn()
    assert (drain.state, drain.seen["kind"]) == ("waiting", "calls_left_behind")
    assert route.calls == []

    site.host.do("UPDATE backfill.drain_call SET started_at = now() - interval '26 s'")
    stop_after(drain, lambda: len(route.calls) > 0)


def test_what_happened_while_it_was_read_happened_0_seconds_ago(site: Site, drain: Drain, serve: Serve) -> None:
    route = serve(lambda: Reply.json(202, mode="dispatch-only"))
    add_due_jobs(site, 1)
    drain.start(route)
    drain.turn_until("stopped")
    seen = drain.client.drain_status()
    assert seen.drain is not None
    assert seen.drain.last is not None
    begun = min(seen.drain.since, seen.drain.last.at) - timedelta(milliseconds=20)

    shown = overview(replace(seen, drain=replace(seen.drain, seen_at=begun)))

    assert "Drain · stopped · for 0.0 s" in shown
    assert "last answer   0.0 s ago" in shown


def test_new_orders_reach_the_worker_that_calls(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    first, second = serve(worked), serve(worked)
    drain.start(first)
    with ThreadPoolExecutor(1) as pool:
        turn = pool.submit(drain.turn)
        wait_for(lambda: first.calls, what="a call of the first route")
        drain.start(second)
        turn.result()

    stop_after(drain, lambda: len(second.calls) > 0)
    assert drain.events == ["drain started", "drain tuned", "drain stopped"]


def test_a_worker_without_the_secret_says_so(site: Site, drain: Drain, serve: Serve) -> None:
    drain.start(serve(worked))
    drain.settings = settings.load({"DATABASE_URL": site.url, "REDIS_URL": site.redis_url})

    drain.turn()

    assert (drain.state, drain.seen["kind"]) == ("paused", "no_secret")
    assert "BACKFILL_CRON_SECRET" in drain.seen["reason"]


def test_a_lost_database_ends_the_turn_and_the_next_one_goes_on(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 20)
    runner = Runner(site.url, limit=2)

    def cut_and_call() -> Reply:
        site.host.do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'backfill'"
        )
        return runner.call()

    drain.start(serve(cut_and_call), parallel=1, until_done=True)

    drain.turn_until("stopped")

    assert len({job for job, _ in runner.done}) == len(runner.done) == 20
    assert drain.seen["jobs"]["succeeded"] == 20


def test_an_unreadable_queue_pauses_it(own_site: Site, serve: Serve) -> None:
    drain = Drain(own_site)
    drain.start(serve(worked))
    own_site.host.do('ALTER TABLE "BackgroundJob" RENAME TO "Elsewhere"')

    drain.turn()

    assert (drain.state, drain.seen["kind"]) == ("paused", "unmeasured")
    drain.close()


def test_the_secret_is_not_in_the_ledger(site: Site, drain: Drain, serve: Serve) -> None:
    add_due_jobs(site, 1)
    drain.start(serve(lambda: Reply.json(500, message=f"Authorization: Bearer {SECRET} of ada@example.org")))
    drain.turn_until("backing off")

    tables = ("drain", "drain_call", "drain_total", "event")
    stored = "".join(str(site.host.rows(f"SELECT * FROM backfill.{table}")) for table in tables)

    assert "Authorization: Bearer ***" in stored
    assert SECRET not in stored
    assert "ada@example.org" not in stored


def test_an_older_ledger_has_no_drain(own_site: Site) -> None:
    own_site.host.do("DROP TABLE backfill.drain; DELETE FROM backfill.migration WHERE version >= 7")

    look_after(own_site.parts, settings.load({"DATABASE_URL": own_site.url}))
