"""A bound that sizes itself: what is measured of the host's drain, and how pages keep to it."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from integration.site import Site
from integration.test_max_pending import GUARD, leads
from unbounded import only

from backfill_tasks.backfills.lead_scoring.backfill import KEY_PREFIX
from backfill_tasks.backfills.lead_scoring.queue import Drain, JobQueue
from backfill_tasks.engine import ledger
from backfill_tasks.engine.admission.bound import STARVED_SECONDS, Bound, Measurement
from backfill_tasks.engine.admission.rhythm import Rhythm
from backfill_tasks.scoring.claims import Claims, Result
from backfill_tasks.scoring.jobs import HOLDER_PREFIX

AUTO = only(max_pending="auto", min_share=5.0)

#: A period without a second call during a test.
LONG = 400_000.0


def ago(seconds: float) -> datetime:
    """Return a time as the host's columns have it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).replace(tzinfo=None)


def add_jobs(
    site: Site, *jobs: str, live: bool = False, status: str = "PENDING", due: float, started: float | None = None
) -> None:
    """Add jobs that were due and started so many seconds ago, each with a lead of its own that has a score."""
    site.host.add_leads(*jobs, overallScore=3)
    for job in jobs:
        begun = None if started is None else ago(started)
        key = f"lead_scoring:{job}" if live else KEY_PREFIX + job
        site.host.add_job(job, status, dedupeKey=key, runAt=ago(due), startedAt=begun)


def store(site: Site, bound: Bound) -> None:
    with site.engine.begin() as connection:
        ledger.write_bound(connection, "lead-scoring", bound)


def stored(site: Site) -> Bound:
    with site.engine.begin() as connection:
        _, bound = ledger.read_bound(connection, "lead-scoring")
    assert bound is not None
    return bound


def call_in(seconds: float) -> Rhythm:
    """Return the rhythm of a host whose next call is in so many seconds."""
    return Rhythm(LONG, (time.time() + seconds) % LONG)


def about_to_take(capacity: float, **changes: object) -> Bound:
    """Return the bound of a host that will take so many jobs in three seconds."""
    known = Bound(call_in(3), capacity=capacity, growing=False, rest=2, judged=1.0, live_per_call=3.0)
    return replace(known, **changes)  # type: ignore[arg-type]


def claim(site: Site, most: int, holder: str) -> list[str]:
    """Claim jobs as a batch of our own scorers does."""
    with site.engine.begin() as connection:
        return [job.id for job in Claims("public", f"{HOLDER_PREFIX}{holder}").claim(connection, most)]


def finish(site: Site, holder: str, results: list[Result]) -> None:
    """End jobs of such a batch."""
    with site.engine.begin() as connection:
        Claims("public", f"{HOLDER_PREFIX}{holder}").finish(connection, results)


#: A drain in some state, after which a worker looked so many seconds ago.
DRAIN = """
DELETE FROM backfill.drain;
DELETE FROM backfill.drain_call;
INSERT INTO backfill.drain (
  url, every_seconds, parallel, until_done, max_live_wait, started_by, state, kind, looked_at
)
VALUES (
  'https://host.example/', {every}, 2, false, 0, 'me', '{state}', 'due', clock_timestamp() - interval '{looked} s'
)
"""

#: Jobs that came due later than all others, and that one batch of our own scorers has done.
MANY_DONE_HERE = f"""
INSERT INTO "Lead" (id, "clientId", "updatedAt")
SELECT 'many-' || number, 'client-1', now() FROM generate_series(1, 1500) AS number;
INSERT INTO "Message" (id, "leadId", direction, body)
SELECT 'many-' || number, 'many-' || number, 'inbound', '' FROM generate_series(1, 1500) AS number;
INSERT INTO backfill.claim (started_at) SELECT now() AT TIME ZONE 'UTC' - interval '20 s';
INSERT INTO "BackgroundJob" (
  id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "startedAt", "updatedAt"
)
SELECT
  'many-' || number, 'LEAD_SCORING_POST_PROCESS', 'SUCCEEDED', '{KEY_PREFIX}many-' || number, 'client-1',
  'many-' || number, 'many-' || number, now() AT TIME ZONE 'UTC' - interval '30 s',
  now() AT TIME ZONE 'UTC' - interval '20 s', now()
FROM generate_series(1, 1500) AS number;
"""


class TestTheMeasurement:
    def measure(self, site: Site, *, since: float = 60, until: float = 0) -> Measurement:
        queue = JobQueue("public", KEY_PREFIX, Drain(60, 5))
        now = time.time()
        with site.engine.begin() as connection:
            return queue.measure(connection, since=now - since, until=now + until)

    def test_of_an_empty_queue_is_zero(self, site: Site) -> None:
        found = self.measure(site)

        assert (found.live, found.ours, found.taken, found.taken_ours, found.left) == (0, 0, 0, 0, 0)
        assert found.waits == ()

    def test_counts_due_jobs_live_ones_and_ours(self, site: Site) -> None:
        add_jobs(site, "a", "b", live=True, due=10)
        add_jobs(site, "c", due=10)
        add_jobs(site, "later", due=-900)

        found = self.measure(site)

        assert (found.live, found.ours) == (2, 1)

    def test_counts_jobs_that_come_due_until_the_next_call(self, site: Site) -> None:
        add_jobs(site, "a", due=-30)

        assert self.measure(site, until=60).ours == 1

    @pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "RUNNING"])
    def test_counts_the_jobs_that_the_last_call_took(self, site: Site, status: str) -> None:
        add_jobs(site, "a", status=status, due=80, started=58)
        add_jobs(site, "b", status=status, live=True, due=80, started=57)
        add_jobs(site, "before", status=status, due=190, started=120)

        found = self.measure(site)

        assert (found.taken, found.taken_ours) == (2, 1)

    def test_counts_the_jobs_that_it_left(self, site: Site) -> None:
        add_jobs(site, "left", live=True, due=70)
        add_jobs(site, "new", live=True, due=50)
        add_jobs(site, "just missed it", live=True, due=60.5)

        assert self.measure(site).left == 1

    def test_returns_when_the_last_jobs_were_due_and_started(self, site: Site) -> None:
        add_jobs(site, "a", status="SUCCEEDED", due=80, started=58)

        ((due, started),) = self.measure(site).waits

        assert started - due == pytest.approx(22, abs=0.5)

    def test_leaves_out_jobs_that_started_before_they_were_due(self, site: Site) -> None:
        add_jobs(site, "a", status="SUCCEEDED", due=10, started=30)

        found = self.measure(site)

        assert (found.taken, found.waits) == (0, ())

    def test_leaves_out_jobs_that_our_own_scorers_have_started(self, site: Site) -> None:
        add_jobs(site, "hosts", "live", status="SUCCEEDED", due=80, started=58)
        add_jobs(site, "a", "b", "failed", due=80)
        claimed = claim(site, 3, "batch-1")
        finish(site, "batch-1", [Result(job, "unchanged") for job in claimed[:2]])
        finish(site, "batch-1", [Result(claimed[2], "failed", error="503")])

        found = self.measure(site)

        assert (found.taken, found.here) == (2, 3)
        assert len(found.waits) == 2

    def test_leaves_out_jobs_that_our_own_scorers_hold(self, site: Site) -> None:
        add_jobs(site, "a", "b", due=80)
        claim(site, 2, "batch-1")

        found = self.measure(site)

        assert (found.taken, found.here, found.ours) == (0, 2, 0)

    def test_counts_no_reserved_job_that_our_own_scorers_have_started(self, site: Site) -> None:
        site.host.do("DELETE FROM backfill.claim")
        add_jobs(site, "reserved", due=-900)
        claimed = claim(site, 1, "batch-1")
        finish(site, "batch-1", [Result(job, "unchanged") for job in claimed])

        found = self.measure(site)

        assert (found.taken, found.here) == (0, 0)
        assert site.host.values("SELECT count(*) FROM backfill.claim") == [0]

    def test_finds_the_hosts_jobs_behind_a_thousand_of_our_own_scorers(self, site: Site) -> None:
        add_jobs(site, "hosts", status="SUCCEEDED", due=80, started=58)
        site.host.do(MANY_DONE_HERE)

        found = self.measure(site)

        assert (found.taken, found.here) == (1, 1_500)

    @pytest.mark.parametrize(
        ("state", "looked", "every"),
        [("calling", 2, 10.0), ("waiting", 2, 10.0), ("paused", 2, None), ("stopped", 2, None), ("calling", 90, None)],
    )
    def test_knows_how_often_the_drain_calls_the_host(
        self, site: Site, state: str, looked: int, every: float | None
    ) -> None:
        site.host.do(DRAIN.format(state=state, looked=looked, every=10))

        assert self.measure(site).every == every

    def test_leaves_out_the_waits_until_the_drains_last_call(self, site: Site) -> None:
        add_jobs(site, "before", status="SUCCEEDED", due=80, started=58)
        add_jobs(site, "after", status="SUCCEEDED", due=20, started=8)
        site.host.do(DRAIN.format(state="stopped", looked=2, every=10))
        site.host.do(
            "INSERT INTO backfill.drain_call (generation, started_at) VALUES (1, now() - interval '30 seconds')"
        )

        found = self.measure(site)

        assert (found.taken, len(found.waits)) == (2, 1)

    def test_survives_jobs_without_a_start_and_times_far_away(self, site: Site) -> None:
        add_jobs(site, "a", status="SUCCEEDED", due=10)
        add_jobs(site, "b", due=10)
        site.host.do("""UPDATE "BackgroundJob" SET "runAt" = '-infinity' WHERE id = 'job-b'""")

        assert self.measure(site).ours == 1


class TestSettingBack:
    def set_back(self, site: Site, jobs: int) -> None:
        queue = JobQueue("public", KEY_PREFIX, Drain(60, 5))
        with site.engine.begin() as connection:
            queue.set_back(connection, jobs=jobs, until=time.time(), due=time.time() + 60)

    def late(self, site: Site) -> list[str]:
        """Return the jobs that aren't due."""
        return site.host.values(
            """SELECT "leadId" FROM "BackgroundJob" WHERE "runAt" > now() AT TIME ZONE 'UTC' ORDER BY 1"""
        )

    def test_delays_our_newest_jobs(self, site: Site) -> None:
        for number, job in enumerate(("a", "b", "c")):
            add_jobs(site, job, due=30 - number)

        self.set_back(site, 2)

        assert self.late(site) == ["b", "c"]

    def test_touches_no_live_job_and_no_running_one(self, site: Site) -> None:
        add_jobs(site, "live", live=True, due=10)
        add_jobs(site, "running", status="RUNNING", due=10, started=5)
        before = site.host.versions()

        self.set_back(site, 10)

        assert site.host.versions() == before

    def test_passes_over_a_job_that_the_host_is_claiming(self, site: Site) -> None:
        add_jobs(site, "a", "b", due=10)
        with site.host.session() as claiming:
            claiming.execute("""UPDATE "BackgroundJob" SET status = 'RUNNING' WHERE id = 'job-a'""")

            self.set_back(site, 10)
            claiming.commit()

        assert self.late(site) == ["b"]


class TestAPage:
    @pytest.fixture
    def ready(self, site: Site) -> Iterator[Site]:
        """A host with twenty leads that need a job."""
        timed = site.with_settings(BACKFILL_DRAIN_SECONDS="60", BACKFILL_DRAIN_LEAD_SECONDS="20")
        site.host.add_leads(*leads(20))
        yield timed
        timed.close()

    def test_takes_what_the_next_call_leaves(self, ready: Site) -> None:
        add_jobs(ready, "live-1", "live-2", live=True, due=5)
        store(ready, about_to_take(9))
        ready.start(pace=AUTO)

        ready.deliver()

        assert ready.host.enqueued() == leads(7)

    def test_has_jobs_that_come_due_at_once(self, ready: Site) -> None:
        store(ready, about_to_take(2))
        ready.start(pace=AUTO)

        ready.deliver()

        assert all(abs(due - ago(0)) < timedelta(seconds=30) for due in ready.host.due_times())

    def test_waits_for_the_moment_before_the_next_call(self, ready: Site) -> None:
        store(ready, replace(about_to_take(9), rhythm=call_in(3_600)))
        run = ready.start(pace=AUTO)

        step = ready.deliver()

        assert step.outcome == "put off"
        (lane,) = ready.read(run.id).lanes
        assert lane.reason == (
            "jobs are added just before the host's next call: at most 9 jobs are due at it; the host takes 9 every"
            " 400000 s, 3 of them live"
        )

    def test_does_not_wait_for_that_moment_while_our_own_scorers_take_due_jobs(self, ready: Site) -> None:
        add_jobs(ready, "live-1", live=True, due=5)
        store(ready, about_to_take(9, rhythm=call_in(3_600), shared=True))
        ready.start(pace=AUTO)

        assert [ready.deliver().outcome for _ in range(2)] == ["committed", "put off"]
        assert ready.host.enqueued() == leads(8)

    def test_makes_room_for_live_jobs_once_our_own_scorers_have_stopped(self, ready: Site) -> None:
        add_jobs(ready, "a", "b", "c", due=15)
        add_jobs(ready, "live-1", live=True, due=5)
        store(ready, about_to_take(2, shared=True))
        ready.start(pace=AUTO)

        assert ready.deliver().outcome == "put off"

        due = ready.host.values("""SELECT count(*) FROM "BackgroundJob" WHERE "runAt" < now() AT TIME ZONE 'UTC'""")
        assert due == [2]
        assert not stored(ready).shared

    def test_without_room_says_what_is_due(self, ready: Site) -> None:
        add_jobs(ready, "live-1", "live-2", live=True, due=5)
        store(ready, about_to_take(2))
        ready.start(pace=AUTO)

        assert (ready.deliver().reason or "").startswith(
            "no room at the host's next call: 2 live jobs and 0 of ours are due; at most 2 jobs are due at it"
        )

    def test_says_beside_a_live_job_that_has_waited_too_long_what_the_next_call_takes(self, ready: Site) -> None:
        add_jobs(ready, "live-1", live=True, due=600)
        store(ready, about_to_take(2))
        ready.start(pace=replace(AUTO, max_live_wait=60.0))

        assert (ready.deliver().reason or "").startswith(
            "a live job has waited for 600 s, over 60 s; at most 2 jobs are due at the host's next call: the host takes"
        )

    def test_sets_back_our_jobs_that_a_smaller_call_left(self, ready: Site) -> None:
        add_jobs(ready, "left-1", "left-2", "left-3", due=5)
        add_jobs(ready, "live-1", live=True, due=5)
        store(ready, about_to_take(2))
        ready.start(pace=AUTO)

        assert ready.deliver().outcome == "put off"

        due = ready.host.values("""SELECT count(*) FROM "BackgroundJob" WHERE "runAt" < now() AT TIME ZONE 'UTC'""")
        assert due == [2]

    def test_learns_from_the_call_before(self, ready: Site) -> None:
        add_jobs(ready, "left", live=True, due=90)
        add_jobs(ready, "taken-1", "taken-2", "taken-3", status="SUCCEEDED", due=80, started=58)
        store(ready, about_to_take(9, rhythm=Rhythm(63.0, (time.time() + 3) % 63.0)))
        ready.start(pace=AUTO)

        ready.deliver()

        assert stored(ready).capacity == 3

    def test_of_a_spread_run_does_not_wait_for_a_call_and_keeps_to_the_bound(self, ready: Site) -> None:
        store(ready, replace(about_to_take(9), rhythm=call_in(3_600)))
        ready.start(pace=replace(AUTO, jobs_per_minute=10.0))

        assert [ready.deliver().outcome for _ in range(2)] == ["committed", "put off"]
        assert ready.host.enqueued() == leads(9)

    def test_keeps_what_it_had_when_a_constant_is_set(self, ready: Site) -> None:
        store(ready, about_to_take(2))
        ready.start(pace=only(max_pending=4))

        ready.deliver()

        assert ready.host.enqueued() == leads(4)


class TestExactness:
    def test_the_bound_is_never_passed_by_lanes_and_runs_side_by_side(
        self, own_site: Site, aside: ThreadPoolExecutor
    ) -> None:
        own_site.host.do(GUARD.replace("%s", "5"))
        own_site.host.add_client("client-2")
        own_site.host.add_leads(*leads(30))
        own_site.host.add_leads(*leads(30, prefix="other"), clientId="client-2")
        patient = own_site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="15000")
        store(patient, Bound(Rhythm(LONG, None), judged=time.time() + LONG))
        runs = [patient.start(limit=4, lanes=3, pace=AUTO, client_ids=[client]) for client in ("client-1", "client-2")]
        ended = threading.Event()

        def work() -> None:
            while not ended.is_set():
                try:
                    message = patient.waiting.pop(0)
                except IndexError:
                    ended.wait(0.005)
                else:
                    patient.parts.chain.step(message)

        workers = [aside.submit(work) for _ in range(4)]
        while any(patient.read(run.id).state == "running" for run in runs) and not any(w.done() for w in workers):
            own_site.host.finish_jobs(2)
        ended.set()

        for each in workers:
            each.result()
        assert {patient.read(run.id).state for run in runs} == {"complete"}
        assert len(own_site.host.enqueued()) == 60
        patient.close()


class TestTheGuaranteedShare:
    @pytest.fixture
    def starved(self, site: Site) -> Site:
        """A host whose live jobs have filled its calls for three hours."""
        site.host.add_leads(*leads(20))
        add_jobs(site, *(f"live-{number}" for number in range(9)), live=True, due=600)
        since = time.time() - STARVED_SECONDS - 3_600
        store(site, about_to_take(4, had_room=False, starved_since=since, credit=2.0, judged=time.time()))
        return site

    def test_goes_through_although_live_jobs_leave_no_room(self, starved: Site) -> None:
        starved.start(pace=AUTO)

        assert starved.deliver().outcome == "committed"
        assert starved.host.enqueued() == leads(2)

    def test_goes_through_although_a_live_job_has_waited_too_long(self, starved: Site) -> None:
        starved.start(pace=replace(AUTO, max_live_wait=60.0))

        assert starved.deliver().outcome == "committed"

    def test_goes_through_once(self, starved: Site) -> None:
        starved.start(pace=AUTO)
        starved.deliver()

        step = starved.deliver()

        assert step.outcome == "put off"
        assert (step.reason or "").endswith(
            "starved for 3 h: live jobs leave no room, and only the guaranteed 5 % of the drain goes through."
            " `backfill drain` has the host's runner called more often"
        )

    def test_of_zero_lets_nothing_pass_a_live_job_that_has_waited_too_long(self, starved: Site) -> None:
        starved.start(pace=replace(AUTO, max_live_wait=60.0, min_share=0.0))

        step = starved.deliver()

        assert step.outcome == "put off"
        assert step.reason == "a live job has waited for 600 s, over 60 s"

    def test_does_not_pass_other_pressure(self, starved: Site) -> None:
        strict = starved.with_settings(BACKFILL_MAX_ACTIVE_PERCENT="0")
        strict.start(pace=replace(AUTO, max_live_wait=60.0))

        assert strict.deliver().outcome == "put off"
        strict.close()
