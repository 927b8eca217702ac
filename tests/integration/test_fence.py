"""The fence: however often and by however many workers a message is delivered, its page happens once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from integration.site import Site

from backfill_tasks.engine import ledger
from backfill_tasks.engine.contract import PageContext
from backfill_tasks.engine.model import PageMessage, RunId, Window
from backfill_tasks.engine.page.results import Committed, Refused
from backfill_tasks.engine.page.statement import PAGE_ROWS
from backfill_tasks.engine.page.transaction import MOST_ATTEMPTS


def started(site: Site, *, leads: int = 4, limit: int = 2, single_batch: bool = False) -> PageMessage:
    """Start a run of one lane and return its first message."""
    site.host.add_leads(*(f"lead-{number}" for number in range(1, leads + 1)))
    site.start(limit=limit, single_batch=single_batch)
    return site.waiting.pop(0)


def do(site: Site, message: PageMessage) -> Committed | Refused:
    return site.parts.chain.pages.do(message)


def refusal(site: Site, message: PageMessage) -> str:
    """Return why a page isn't done, after checking that asking changes nothing."""
    before = site.host.versions()
    refused = do(site, message)
    assert isinstance(refused, Refused)
    assert site.host.versions() == before
    return refused.why


class TestDuplicates:
    def test_a_second_delivery_changes_nothing(self, site: Site) -> None:
        message = started(site)
        do(site, message)

        assert refusal(site, message) == "duplicate"

    def test_a_second_delivery_waits_for_the_first_and_then_sees_that_it_is_one(
        self, site: Site, aside: ThreadPoolExecutor
    ) -> None:
        message = started(site)
        patient = site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="60000", BACKFILL_STATEMENT_TIMEOUT_MS="60000")

        with site.engine.begin() as first:
            fence = ledger.fence(first, message, lock_ms=1_000, statement_ms=15_000)
            second = aside.submit(do, patient, message)
            site.host.wait_until_blocked()
            assert fence is not None
            result = patient.parts.backfills["lead-scoring"].page(first, *page_of(fence))
            ledger.record(first, message, fence, result, [], size=500, seconds=0.1)

        refused = second.result()
        assert isinstance(refused, Refused)
        assert refused.why == "duplicate"
        assert site.host.enqueued() == ["lead-1", "lead-2"]
        patient.close()

    def test_of_many_deliveries_at_once_one_does_the_page(self, site: Site, aside: ThreadPoolExecutor) -> None:
        message = started(site)
        patient = site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="60000", BACKFILL_STATEMENT_TIMEOUT_MS="60000")

        done = list(aside.map(lambda _: do(patient, message), range(8)))

        assert sum(isinstance(each, Committed) for each in done) == 1
        assert {each.why for each in done if isinstance(each, Refused)} == {"duplicate"}
        assert site.host.values("SELECT count(*) FROM backfill.page") == [1]
        patient.close()

    def test_a_page_that_is_rolled_back_is_done_by_the_next_delivery(self, site: Site) -> None:
        message = started(site)
        with site.engine.connect() as connection:
            assert ledger.fence(connection, message, lock_ms=1_000, statement_ms=15_000) is not None

        assert isinstance(do(site, message), Committed)


def page_of(fence: ledger.Fence) -> tuple[Window, PageContext]:
    """Return the window and the context of a lane's page."""
    window = Window(fence.lane.left, fence.parameters.limit, PAGE_ROWS)
    return window, PageContext(fence.parameters.options, fence.started_at)


class TestABackfillThatThisWorkerDoesNotKnow:
    def test_its_page_waits_for_a_worker_that_does_and_the_ledger_says_so(self, site: Site) -> None:
        message = started(site)
        site.host.do('UPDATE backfill.run SET parameters = parameters || \'{"backfill": "to-come"}\'')

        site.parts.chain.step(message)

        assert site.waiting == [replace(message, waits=1)]
        (lane,) = site.read(message.run).lanes
        assert lane.page == 0
        assert lane.reason == (
            "a worker can't do this page: no package brings a backfill 'to-come': installed are lead-scoring,"
            " message-rollups; install the same packages for all workers"
        )


class TestGenerations:
    def test_a_message_of_an_older_one_is_superseded(self, site: Site) -> None:
        message = started(site)
        site.parts.chain.reseed(message.run, [1])

        assert refusal(site, message) == "superseded"

    def test_a_message_of_the_newest_is_done(self, site: Site) -> None:
        message = started(site)
        site.parts.chain.reseed(message.run, [1])

        assert isinstance(do(site, site.waiting[0]), Committed)

    def test_a_message_of_one_that_the_ledger_does_not_know_is_not_done(self, site: Site) -> None:
        message = started(site)

        assert refusal(site, replace(message, generation=2)) == "unknown"

    def test_a_committed_page_of_an_older_one_is_superseded_too(self, site: Site) -> None:
        message = started(site)
        do(site, message)
        site.parts.chain.reseed(message.run, [1])

        assert refusal(site, message) == "superseded"


class TestStates:
    def test_a_paused_run_is_held(self, site: Site) -> None:
        message = started(site)
        site.runs.pause(message.run, "for lunch")

        assert refusal(site, message) == "inactive"

    def test_a_cancelled_run_is_held(self, site: Site) -> None:
        message = started(site)
        site.runs.cancel(message.run)

        assert refusal(site, message) == "inactive"

    def test_a_lane_that_has_stopped_is_held(self, site: Site) -> None:
        site.host.add_leads("a", "b")
        site.start(limit=1, lanes=2)
        message = site.waiting[0]
        site.parts.chain.stop(message, "it can't go on")

        assert refusal(site, message) == "inactive"

    def test_a_resumed_run_goes_on(self, site: Site) -> None:
        message = started(site)
        site.runs.pause(message.run, "for lunch")
        site.runs.resume(message.run)

        assert isinstance(do(site, site.waiting[0]), Committed)

    def test_a_single_batch_is_held_after_its_page(self, site: Site) -> None:
        message = started(site, single_batch=True)
        do(site, message)

        assert site.read(message.run).state == "paused"
        assert refusal(site, replace(message, page=2)) == "inactive"


class TestUnknown:
    def test_a_page_is_not_done_before_the_one_before_it(self, site: Site) -> None:
        message = started(site)

        assert refusal(site, replace(message, page=2)) == "unknown"

    def test_a_lane_that_the_ledger_does_not_have_is_not_done(self, site: Site) -> None:
        message = started(site)

        assert refusal(site, replace(message, lane=2)) == "unknown"

    def test_a_run_that_the_ledger_does_not_have_is_not_done(self, site: Site) -> None:
        message = started(site)

        assert refusal(site, replace(message, run=RunId("gone"))) == "unknown"


class TestDeadlyPages:
    def test_a_page_that_has_ended_its_worker_too_often_is_not_tried_again(self, site: Site) -> None:
        message = started(site)
        for _ in range(MOST_ATTEMPTS):
            site.live.begin(message)

        assert refusal(site, message) == "poison"

    def test_it_stops_its_lane_and_says_why(self, site: Site) -> None:
        message = started(site)
        for _ in range(MOST_ATTEMPTS):
            site.live.begin(message)

        step = site.parts.chain.step(message)

        assert step.outcome == "stopped"
        assert site.read(message.run).state == "failed"
        assert (
            site.read(message.run).reason
            == f"lane 1: page 1 ended its worker {MOST_ATTEMPTS} times: see the workers' logs"
        )


class TestChain:
    def test_each_page_sends_the_one_after_it(self, site: Site) -> None:
        message = started(site)

        site.parts.chain.step(message)

        assert site.waiting == [replace(message, page=2)]

    def test_a_duplicate_sends_nothing(self, site: Site) -> None:
        message = started(site)
        site.parts.chain.step(message)

        step = site.parts.chain.step(message)

        assert step.outcome == "duplicate"
        assert site.waiting == [replace(message, page=2)]

    def test_a_duplicate_sends_what_was_committed_and_not_followed(self, site: Site) -> None:
        message = started(site)
        do(site, message)

        site.parts.chain.step(message)

        assert site.waiting == [replace(message, page=2)]

    def test_the_last_page_ends_the_run(self, site: Site) -> None:
        message = started(site, leads=2)

        site.parts.chain.step(message)

        assert site.waiting == []
        assert site.read(message.run).state == "complete"

    def test_a_duplicate_of_a_last_page_ends_the_run_that_was_left_unended(self, site: Site) -> None:
        message = started(site, leads=2)
        do(site, message)

        site.parts.chain.step(message)

        assert site.read(message.run).state == "complete"

    @pytest.mark.parametrize("lanes", [1, 3])
    def test_a_run_does_each_lead_once_though_every_message_comes_twice(self, site: Site, lanes: int) -> None:
        leads = [f"lead-{number}" for number in range(1, 10)]
        site.host.add_leads(*leads)
        run = site.start(limit=2, lanes=lanes)

        while site.waiting:
            message = site.waiting.pop(0)
            site.parts.chain.step(message)
            site.parts.chain.step(message)

        assert site.read(run.id).state == "complete"
        assert site.read(run.id).counts["inserted"] == 9
        assert site.host.enqueued() == leads
