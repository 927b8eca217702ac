"""Waiting jobs: never more than a run may have, and a page without room is postponed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

import pytest
from integration.site import NOON, Site
from unbounded import only

from backfill_tasks.engine.model import PageMessage, Run
from backfill_tasks.engine.page.results import Committed, PutOff, Refused

#: Refuses a commit after which too many of our jobs would be pending. The lock makes commits take turns, so each sees
#: all earlier ones and none escapes; until they commit, pages run concurrently.
GUARD = """
CREATE FUNCTION refuse_too_many() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(1);
  IF (
    SELECT count(*) FROM "BackgroundJob"
    WHERE status IN ('PENDING', 'RUNNING') AND starts_with("dedupeKey", 'lead_scoring_backfill:')
  ) > %s THEN
    RAISE EXCEPTION 'too many are pending' USING ERRCODE = '42501';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse_too_many AFTER INSERT OR UPDATE ON "BackgroundJob"
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_too_many();
"""


def leads(number: int, *, prefix: str = "lead") -> list[str]:
    return [f"{prefix}-{each:03d}" for each in range(number)]


def bounded(site: Site, *, number: int, limit: int = 5, lanes: int = 1, most: int = 3) -> Run:
    """Start a run over `number` leads, of whose jobs `most` may be pending."""
    site.host.add_leads(*leads(number))
    return site.start(limit=limit, lanes=lanes, pace=only(max_pending=most))


def sizes(site: Site) -> list[int]:
    """Return how many leads each page read, in commit order."""
    return site.host.values("SELECT (counts ->> 'read')::int FROM backfill.page ORDER BY at, lane, number")


def do(site: Site, message: PageMessage) -> Committed | Refused | PutOff:
    return site.parts.chain.pages.do(message)


class TestTheHorizon:
    """Jobs that come due long after the next one take up no room until then."""

    @pytest.fixture
    def parked(self, site: Site) -> Site:
        """A host with five jobs that an older run has spread over hours."""
        site.host.add_leads(*leads(5, prefix="parked"))
        site.whole_run(delay_ms=3_600_000)
        return site

    def test_jobs_parked_in_the_future_take_up_no_room(self, parked: Site) -> None:
        parked.host.add_leads(*leads(3))
        parked.start(limit=5, pace=only(max_pending=3), after="lead-")

        parked.deliver()

        assert set(leads(3)) <= set(parked.host.enqueued())

    def test_jobs_that_come_due_within_a_drain_do(self, parked: Site) -> None:
        parked.host.do("""UPDATE "BackgroundJob" SET "runAt" = now() AT TIME ZONE 'UTC' + interval '30 seconds'""")
        parked.start(limit=5, pace=only(max_pending=3))

        step = parked.deliver()

        assert step.reason == "no room in the host's queue: 5 jobs wait, ours and due live ones"

    def test_jobs_of_the_run_itself_count_however_late_they_come_due(self, site: Site) -> None:
        site.host.add_leads(*leads(5))
        site.start(limit=5, pace=only(max_pending=3), delay_ms=3_600_000)
        site.deliver()

        step = site.deliver()

        assert step.reason == "no room in the host's queue: 3 jobs wait, ours and due live ones"

    def test_spaced_jobs_of_the_run_itself_count_too(self, site: Site) -> None:
        site.host.add_leads(*leads(5))
        site.start(limit=5, pace=only(max_pending=3, jobs_per_minute=0.1))
        site.deliver()

        step = site.deliver()

        assert step.reason == "no room in the host's queue: 3 jobs wait, ours and due live ones"


class TestTheBound:
    def test_a_page_takes_what_room_there_is(self, site: Site) -> None:
        bounded(site, number=10, limit=5, most=3)

        site.deliver()

        assert sizes(site) == [3]
        assert site.host.enqueued() == leads(3)

    def test_room_that_comes_free_is_taken(self, site: Site) -> None:
        bounded(site, number=10, limit=5, most=3)
        site.deliver()
        site.host.finish_jobs(2)

        site.deliver()

        assert sizes(site) == [3, 2]

    def test_a_page_larger_than_the_limit_is_not_made_of_it(self, site: Site) -> None:
        bounded(site, number=10, limit=2, most=50)

        site.deliver()

        assert sizes(site) == [2]

    @pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
    def test_jobs_that_the_host_has_not_done_take_up_room(self, site: Site, status: str) -> None:
        site.host.add_leads("before")
        site.host.add_job("before", status)
        bounded(site, number=10, most=1)

        assert site.deliver().outcome == "put off"

    @pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
    def test_jobs_that_have_ended_take_up_none(self, site: Site, status: str) -> None:
        site.host.add_leads("a-before", overallScore=7)
        site.host.add_job("a-before", status)
        bounded(site, number=10, most=1)

        assert site.deliver().outcome == "committed"

    def test_live_jobs_that_are_due_take_up_room_for_they_go_first(self, site: Site) -> None:
        site.host.add_leads("a-before", overallScore=7)
        site.host.add_job("a-before", "PENDING", dedupeKey="lead_scoring:a-before")
        bounded(site, number=10, most=3)

        site.deliver()

        assert sizes(site) == [2]

    @pytest.mark.parametrize(
        ("status", "due"),
        [("PENDING", datetime(2100, 1, 1)), ("RUNNING", NOON), ("SUCCEEDED", NOON), ("FAILED", NOON)],  # noqa: DTZ001
    )
    def test_other_jobs_of_other_kinds_take_up_none(self, site: Site, status: str, due: datetime) -> None:
        site.host.add_leads("a-before", overallScore=7)
        site.host.add_job("a-before", status, dedupeKey="lead_scoring:a-before", runAt=due)
        bounded(site, number=10, most=3)

        site.deliver()

        assert sizes(site) == [3]

    def test_without_one_a_page_is_as_large_as_its_limit(self, site: Site) -> None:
        site.host.add_leads(*leads(10))
        site.start(limit=5)

        site.deliver()

        assert sizes(site) == [5]

    def test_is_never_passed_by_lanes_and_runs_that_are_at_work_side_by_side(
        self, own_site: Site, aside: ThreadPoolExecutor
    ) -> None:
        most = 7
        own_site.host.do(GUARD.replace("%s", str(most)))
        own_site.host.add_client("client-2")
        own_site.host.add_leads(*leads(40))
        own_site.host.add_leads(*leads(40, prefix="other"), clientId="client-2")
        patient = own_site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="15000")
        runs = [
            patient.start(limit=4, lanes=3, pace=only(max_pending=most), client_ids=[client])
            for client in ("client-1", "client-2")
        ]
        ended = threading.Event()

        def work() -> None:
            while not ended.is_set():
                try:
                    message = patient.waiting.pop(0)
                except IndexError:
                    ended.wait(0.005)
                else:
                    patient.parts.chain.step(message)

        workers = [aside.submit(work) for _ in range(6)]
        while any(patient.read(run.id).state == "running" for run in runs) and not any(w.done() for w in workers):
            own_site.host.finish_jobs(2)
        ended.set()

        for each in workers:
            each.result()
        assert {patient.read(run.id).state for run in runs} == {"complete"}
        assert own_site.host.enqueued() == [*leads(40), *leads(40, prefix="other")]
        assert [patient.verify(run.id).wrong for run in runs] == [False, False]
        patient.close()

    def test_holds_in_a_database_whose_transactions_see_one_moment_only(
        self, own_site: Site, aside: ThreadPoolExecutor
    ) -> None:
        (name,) = own_site.host.values("SELECT current_database()")
        own_site.host.do(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
        patient = own_site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="15000")
        bounded(patient, number=20, limit=2, lanes=4, most=3)
        own_site.host.do(GUARD.replace("%s", "3"))

        outcomes = list(aside.map(patient.parts.chain.step, list(patient.waiting)))

        assert {each.outcome for each in outcomes} == {"committed", "put off"}
        assert len(own_site.host.enqueued()) == 3
        patient.close()


class TestAPageWithoutRoom:
    def test_waits_and_says_why(self, site: Site) -> None:
        run = bounded(site, number=10, most=3)
        site.deliver()

        step = site.deliver()

        assert step.outcome == "put off"
        assert step.reason == "no room in the host's queue: 3 jobs wait, ours and due live ones"
        assert [lane.reason for lane in site.read(run.id).lanes] == [step.reason]

    def test_changes_nothing_of_the_host_s(self, site: Site) -> None:
        bounded(site, number=10, most=3)
        site.deliver()
        before = site.host.versions()

        site.deliver()

        assert site.host.versions() == before

    def test_is_sent_again_with_a_number(self, site: Site) -> None:
        bounded(site, number=10, most=3)
        site.deliver()
        message = site.waiting[0]

        site.deliver()
        site.deliver()

        assert site.waiting == [replace(message, waits=2)]

    def test_goes_on_when_there_is_room_again_and_its_reason_is_gone(self, site: Site) -> None:
        run = bounded(site, number=10, most=3)
        site.deliver()
        site.deliver()
        site.host.finish_jobs(1)

        site.deliver()

        (lane,) = site.read(run.id).lanes
        assert (lane.page, lane.reason, lane.waits) == (2, None, 0)

    def test_is_not_seeded_again_by_the_watchdog_while_it_waits(self, site: Site) -> None:
        waiting = site.with_settings(BACKFILL_PRESSURE_SECONDS="600")
        bounded(waiting, number=10, most=3)
        waiting.deliver()
        waiting.deliver()

        assert waiting.watchdog.look(stalled_seconds=0, on_their_way=set) == []
        waiting.close()

    def test_stays_paused_when_the_run_is_paused_while_it_waits(self, site: Site) -> None:
        run = bounded(site, number=10, most=3)
        site.deliver()
        site.deliver()
        site.runs.pause(run.id, "for lunch")

        assert site.deliver().outcome == "inactive"
        assert site.waiting == []

    def test_has_not_ended_its_worker_however_often_it_asks(self, site: Site) -> None:
        bounded(site, number=4, most=3)
        site.deliver()
        for _ in range(20):
            site.deliver()
        site.host.finish_jobs(3)

        assert site.deliver().outcome == "committed"


class TestADuplicate:
    def test_of_a_page_that_was_put_off_is_dropped(self, site: Site) -> None:
        bounded(site, number=10, most=3)
        site.deliver()
        message = site.waiting[0]
        site.deliver()

        assert site.parts.chain.step(message).outcome == "duplicate"
        assert site.waiting == [replace(message, waits=1)]

    def test_never_makes_a_second_chain_however_many_come_at_once(self, site: Site, aside: ThreadPoolExecutor) -> None:
        patient = site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="15000")
        bounded(patient, number=10, most=3)
        patient.deliver()
        message = patient.waiting.pop(0)

        steps = list(aside.map(patient.parts.chain.step, [message] * 8))

        assert [step.outcome for step in steps].count("put off") == 1
        assert patient.waiting == [replace(message, waits=1)]
        patient.close()

    def test_of_a_page_that_was_done_after_it_had_waited_is_dropped(self, site: Site) -> None:
        bounded(site, number=10, most=3)
        site.deliver()
        first = site.waiting[0]
        site.deliver()
        site.host.finish_jobs(1)
        site.deliver()

        assert isinstance(do(site, first), Refused)
        assert sizes(site) == [3, 1]

    def test_of_an_older_generation_is_superseded_whatever_its_number(self, site: Site) -> None:
        run = bounded(site, number=10, most=3)
        site.deliver()
        site.deliver()
        old = site.waiting[0]
        site.parts.chain.reseed(run.id, [1])

        assert site.parts.chain.step(old).outcome == "superseded"

    def test_a_lane_that_is_seeded_again_after_it_has_waited_goes_on(self, site: Site) -> None:
        run = bounded(site, number=10, most=3)
        site.deliver()
        site.deliver()
        site.waiting.clear()
        site.host.finish_jobs(3)

        site.parts.chain.reseed(run.id, [1])

        assert site.deliver().outcome == "committed"


class TestMaxJobs:
    def start(self, site: Site, *, most: int, lanes: int = 1, limit: int = 4) -> Run:
        site.host.add_leads(*leads(20))
        return site.start(limit=limit, lanes=lanes, pace=only(max_jobs=most))

    @pytest.mark.parametrize("lanes", [1, 3])
    def test_is_reached_exactly_and_then_the_run_pauses_and_says_why(self, site: Site, lanes: int) -> None:
        run = self.start(site, most=10, lanes=lanes)

        site.deliver_all()

        assert len(site.host.enqueued()) == 10
        found = site.read(run.id)
        assert (found.state, found.reason) == ("paused", "its budget of 10 jobs is used up")

    def test_is_never_passed_by_lanes_at_work_side_by_side(self, site: Site, aside: ThreadPoolExecutor) -> None:
        patient = site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="15000")
        run = self.start(patient, most=7, lanes=5, limit=2)
        while patient.waiting:
            taken = [patient.waiting.pop(0) for _ in list(patient.waiting)]
            list(aside.map(patient.parts.chain.step, taken))

        assert len(site.host.enqueued()) == 7
        assert patient.read(run.id).state == "paused"
        patient.close()

    def test_raised_and_resumed_the_run_goes_on(self, site: Site) -> None:
        run = self.start(site, most=10, lanes=2)
        site.deliver_all()

        site.runs.tune(run.id, {"max_jobs": None})
        site.runs.resume(run.id)
        site.deliver_all()

        assert site.read(run.id).state == "complete"
        assert len(site.host.enqueued()) == 20
        assert site.verify(run.id).clean

    def test_resumed_and_not_raised_it_pauses_again_and_does_nothing(self, site: Site) -> None:
        run = self.start(site, most=10)
        site.deliver_all()

        site.runs.resume(run.id)
        site.deliver_all()

        assert site.read(run.id).state == "paused"
        assert len(site.host.enqueued()) == 10

    def test_a_job_that_was_pending_already_is_none_that_the_run_enqueues(self, site: Site) -> None:
        run = self.start(site, most=10, limit=20)
        for lead in leads(15):
            site.host.add_job(lead, "PENDING")

        site.deliver_all()

        found = site.read(run.id)
        assert found.state == "complete"
        assert (found.counts["refreshed"], found.counts["inserted"]) == (15, 5)

    def test_a_job_that_had_ended_and_is_pending_again_is_one(self, site: Site) -> None:
        run = self.start(site, most=10)
        for lead in leads(20):
            site.host.add_job(lead, "FAILED")

        site.deliver_all()

        assert site.read(run.id).counts["requeued"] == 10

    def test_that_lasts_to_the_end_pauses_nothing(self, site: Site) -> None:
        run = self.start(site, most=20)

        site.deliver_all()

        assert site.read(run.id).state == "complete"
