"""A single batch: one page that reads something, in one lane, whatever the watchdog and late messages do."""

import pytest
from harness import wait_for
from integration.site import STATEMENT_MS, Site, own_options

from backfill_tasks.engine import batch, ledger
from backfill_tasks.engine.dry_run import DryRun
from backfill_tasks.engine.model import Run, RunId
from backfill_tasks.engine.runs import cut, new_id
from backfill_tasks.options import Parameters


@pytest.fixture
def far_down(site: Site) -> Site:
    """A host whose small workspace comes after 6,000 leads of another, so that its first page reads nothing."""
    site.host.do(
        """INSERT INTO "Lead" (id, "clientId", "updatedAt")
        SELECT 'lead-' || lpad(n::text, 5, '0'), 'client-1', now() FROM generate_series(1, 6000) AS n"""
    )
    site.host.add_client("small")
    site.host.add_leads("z-1", "z-2", clientId="small")
    return site


def seeded_by_the_watchdog(site: Site) -> list[ledger.StalledLane]:
    past = "now() - interval '1 hour'"
    site.host.do(f"UPDATE backfill.lane SET moved_at = {past}, held_until = {past}")
    return site.watchdog.look(stalled_seconds=1, on_their_way=tuple)


def pages(site: Site, run: RunId) -> list[int]:
    return [lane.page for lane in site.read(run).lanes]


def test_it_passes_empty_pages_until_one_reads_something(far_down: Site) -> None:
    run = far_down.start(limit=1, single_batch=True, client_ids=["small"])

    far_down.deliver_all()

    ended = far_down.read(run.id)
    assert (ended.state, ended.reason, ended.counts["read"]) == ("paused", "single batch done", 1)


def test_it_looks_no_further_than_it_may_and_says_that_nothing_was_read(
    far_down: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_EMPTY_PAGES", 1)
    run = far_down.start(limit=1, single_batch=True, client_ids=["small"])

    far_down.deliver_all()

    ended = far_down.read(run.id)
    assert (ended.state, ended.pages) == ("paused", 1)
    assert ended.reason == "single batch ended, but no page of it read anything"


def test_it_goes_on_in_the_next_lanes_until_one_reads_something(site: Site) -> None:
    site.host.add_leads("a", "b", "c", inbound=0)
    site.host.add_leads("d", "e")
    run = site.start(limit=1, lanes=4, single_batch=True)

    site.deliver_all()

    ended = site.read(run.id)
    assert (ended.state, ended.reason, ended.counts["read"]) == ("paused", "single batch done", 1)
    assert [lane.state for lane in ended.lanes] == ["done", "done", "done", "running"]
    assert site.verify(run.id).clean


def test_the_watchdog_seeds_the_next_lane_if_the_worker_ended_before(site: Site) -> None:
    site.host.add_leads("a", inbound=0)
    site.host.add_leads("b")
    run = site.start(limit=1, lanes=2, single_batch=True)
    site.parts.chain.pages.do(site.waiting.pop())

    assert [each.lane for each in seeded_by_the_watchdog(site)] == [2]
    site.deliver_all()
    assert site.read(run.id).counts["read"] == 1


def test_late_duplicates_of_a_lane_that_was_passed_do_nothing(site: Site) -> None:
    site.host.add_leads("a", inbound=0)
    site.host.add_leads("b", "c")
    run = site.start(limit=1, lanes=3, single_batch=True)
    late = site.waiting[0]
    site.deliver_all()
    site.waiting.extend([late, late])

    site.deliver_all()

    assert pages(site, run.id) == [1, 1, 0]


def test_it_ends_complete_where_no_lane_reads_anything(site: Site) -> None:
    site.host.add_leads("a", "b", inbound=0)
    run = site.start(limit=1, lanes=2, single_batch=True)

    site.deliver_all()

    ended = site.read(run.id)
    assert (ended.state, ended.counts["read"]) == ("complete", 0)


@pytest.fixture
def two_lanes(site: Site) -> Run:
    """A single batch in the first of two lanes of two pages each, seeded but not done."""
    site.host.add_leads("a", "b", "c", "d")
    return site.start(limit=1, lanes=2, single_batch=True)


def test_the_watchdog_seeds_its_lane_only(site: Site, two_lanes: Run) -> None:
    assert [each.lane for each in seeded_by_the_watchdog(site)] == [1]


def test_no_other_lane_is_seeded_when_its_lane_is_done(site: Site, two_lanes: Run) -> None:
    site.host.do("UPDATE backfill.lane SET state = 'done' WHERE number = 1")

    assert seeded_by_the_watchdog(site) == []


def test_a_failed_lane_ends_it_and_no_other_is_seeded(site: Site, two_lanes: Run) -> None:
    site.parts.chain.stop(site.waiting.pop(), "by the test")

    assert seeded_by_the_watchdog(site) == []
    assert site.read(two_lanes.id).state == "failed"


def test_late_messages_of_other_lanes_do_nothing_in_a_resumed_single_batch(site: Site) -> None:
    site.host.add_leads("a", "b", "c", "d")
    run = site.start(limit=1, lanes=2)
    site.runs.pause(run.id, "by the test")
    late = site.waiting.pop()
    site.waiting.clear()

    site.runs.resume(run.id, single_batch=True)
    site.waiting.insert(0, late)
    site.deliver_all()

    assert pages(site, run.id) == [1, 0]
    assert site.read(run.id).reason == "single batch done"


def test_all_lanes_move_when_it_is_resumed(site: Site, two_lanes: Run) -> None:
    site.deliver_all()

    site.runs.resume(two_lanes.id)
    site.deliver_all()

    assert (site.read(two_lanes.id).state, pages(site, two_lanes.id)) == ("complete", [2, 2])


def test_a_dry_run_of_one_batch_says_that_it_read_nothing(far_down: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_EMPTY_PAGES", 1)
    backfill = far_down.parts.backfills["lead-scoring"]
    parameters = Parameters("lead-scoring", 1, 1, options=own_options(client_ids=["small"]))
    lanes = cut(far_down.engine, backfill, parameters, smallest=1)
    dry = DryRun(far_down.engine, backfill, parameters, new_id(), lanes, STATEMENT_MS, single_batch=True)

    with dry.walking():
        ended = wait_for(lambda: dry.read() if dry.read().state != "running" else None, what="the dry run to end")

    assert ended is not None
    assert (ended.state, ended.reason) == ("paused", "single batch ended, but no page of it read anything")
