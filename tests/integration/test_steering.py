"""Steering a run in progress: tune, canary, the page size, and the events that record it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from integration.site import Row, Site
from unbounded import only

from backfill_tasks.engine import ledger
from backfill_tasks.engine.model import Run
from backfill_tasks.errors import OptionConflictError, UsageError


def leads(number: int) -> list[str]:
    return [f"lead-{each:03d}" for each in range(number)]


def started(site: Site, *, number: int = 100, **parameters: Any) -> Run:
    site.host.add_leads(*leads(number))
    return site.start(**parameters)


def sizes(site: Site) -> list[int]:
    return site.host.values("SELECT (counts ->> 'read')::int FROM backfill.page ORDER BY at")


class TestTune:
    @pytest.mark.parametrize("limit", [3, 20])
    @pytest.mark.parametrize("target_page_ms", [0, 60_000])
    def test_a_limit_holds_from_the_next_page_on(self, site: Site, limit: int, target_page_ms: int) -> None:
        run = started(site, limit=10, pace=only(target_page_ms=target_page_ms))
        site.deliver()

        site.runs.tune(run.id, {"limit": limit})
        site.deliver()

        assert sizes(site) == [10, limit]

    def test_answers_what_was_changed_old_and_new(self, site: Site) -> None:
        run = started(site, limit=10, pace=only(max_pending=50))

        changed = site.runs.tune(run.id, {"limit": 10, "max_pending": None, "jobs_per_minute": 2.5})

        assert changed == {"max_pending": (50, None), "jobs_per_minute": (None, 2.5)}
        assert site.read(run.id).parameters.pace == only(jobs_per_minute=2.5)

    def test_what_is_so_already_changes_nothing_and_is_no_event(self, site: Site) -> None:
        run = started(site, limit=10)

        assert site.runs.tune(run.id, {"limit": 10}) == {}
        assert site.host.events("tuned") == []

    def test_a_paused_run_may_be_tuned(self, site: Site) -> None:
        run = started(site, limit=10)
        site.runs.pause(run.id, "for lunch")

        assert site.runs.tune(run.id, {"limit": 20}) == {"limit": (10, 20)}

    def test_a_complete_run_is_refused(self, site: Site) -> None:
        run = started(site)
        site.deliver_all()

        with pytest.raises(UsageError, match=r"is complete: nothing to tune"):
            site.runs.tune(run.id, {"limit": 20})

    def test_a_cancelled_run_is_refused(self, site: Site) -> None:
        run = started(site)
        site.runs.cancel(run.id)

        with pytest.raises(UsageError, match=r"is cancelled: nothing to tune"):
            site.runs.tune(run.id, {"limit": 20})

    def test_jobs_per_minute_is_refused_where_a_delay_says_when_they_are_due(self, site: Site) -> None:
        run = started(site, delay_ms=100)

        with pytest.raises(OptionConflictError, match=r"has delay_ms, which contradicts jobs_per_minute"):
            site.runs.tune(run.id, {"jobs_per_minute": 10.0})

    def test_at_the_same_time_every_change_is_kept_and_noted(self, site: Site, aside: ThreadPoolExecutor) -> None:
        run = started(site, limit=10)
        changes: list[dict[str, int]] = [{"limit": 20}, {"max_pending": 7}, {"max_jobs": 9}, {"page_delay_ms": 1}]

        list(aside.map(lambda change: site.runs.tune(run.id, change), changes))

        own = site.read(run.id).parameters.as_json()
        assert {name: own[name] for change in changes for name in change} == {
            name: new for change in changes for name, new in change.items()
        }
        assert len(site.host.events("tuned")) == 4


class TestTheSizeOfPages:
    PACE = only(target_page_ms=600)

    @pytest.fixture
    def slow_site(self, own_site: Site) -> Site:
        """A host where writing the jobs takes longer than a page's target."""
        own_site.host.do(
            "CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.7); RETURN NULL; END $$"
        )
        own_site.host.do('CREATE TRIGGER rest BEFORE INSERT ON "BackgroundJob" EXECUTE FUNCTION rest()')
        return own_site

    def test_shrinks_after_a_slow_page_and_recovers_slowly_after_a_quick_one(self, slow_site: Site) -> None:
        started(slow_site, number=200, limit=40, pace=self.PACE)
        slow_site.deliver()
        slow_site.host.do('DROP TRIGGER rest ON "BackgroundJob"')

        slow_site.deliver()
        slow_site.deliver()

        first, second, third = sizes(slow_site)
        assert first == 40
        assert 10 <= second < 40
        assert third == second + 2

    def test_is_halved_when_a_page_could_not_be_done_in_time(self, site: Site) -> None:
        started(site, limit=40, pace=self.PACE)
        with site.engine.begin() as connection:
            ledger.hold_back(connection, site.waiting[0], 0, "canceling statement due to lock timeout (55P03)")

        site.deliver()

        assert sizes(site) == [20]

    def test_is_halved_again_each_time_but_is_never_none(self, site: Site) -> None:
        started(site, limit=40, pace=self.PACE)
        with site.engine.begin() as connection:
            for _ in range(10):
                ledger.hold_back(connection, site.waiting[0], 0, "a lock")

        site.deliver()

        assert sizes(site) == [1]

    def test_is_half_of_a_limit_that_was_lowered(self, site: Site) -> None:
        run = started(site, limit=40, pace=self.PACE)
        with site.engine.begin() as connection:
            ledger.hold_back(connection, site.waiting[0], 0, "a lock")
        site.runs.tune(run.id, {"limit": 10})
        with site.engine.begin() as connection:
            ledger.hold_back(connection, site.waiting[0], 0, "a lock")

        site.deliver()

        assert sizes(site) == [5]

    def test_skips_nothing_however_it_changes(self, site: Site) -> None:
        run = started(site, limit=40, pace=self.PACE)
        for number in (7, 40, 1, 13):
            site.runs.tune(run.id, {"limit": number})
            site.deliver()

        site.deliver_all()

        assert site.host.enqueued() == leads(100)
        assert site.verify(run.id).clean


class TestACanary:
    def test_does_one_page_of_one_lane_and_pauses(self, site: Site) -> None:
        run = started(site, limit=10, lanes=3, single_batch=True)

        site.deliver_all()

        found = site.read(run.id)
        assert (found.state, found.pages) == ("paused", 1)

    def test_does_not_let_the_watchdog_begin_the_other_lanes(self, site: Site) -> None:
        started(site, limit=10, lanes=3, single_batch=True)
        (first,) = site.waiting

        assert site.watchdog.look(stalled_seconds=0, on_their_way=lambda: {first.task_id}) == []
        assert site.waiting == [first]

    def test_whose_task_was_lost_is_begun_again_and_no_other_lane_with_it(self, site: Site) -> None:
        run = started(site, limit=10, lanes=3, single_batch=True)
        site.waiting.clear()

        site.watchdog.look(stalled_seconds=0, on_their_way=set)
        site.deliver_all()

        assert site.read(run.id).pages == 1

    def test_goes_on_in_all_lanes_when_it_is_resumed(self, site: Site) -> None:
        run = started(site, limit=10, lanes=3, single_batch=True)
        site.deliver_all()

        site.runs.resume(run.id)
        site.deliver_all()

        assert site.read(run.id).state == "complete"
        assert site.host.enqueued() == leads(100)

    def test_that_finds_no_room_waits_for_it_and_is_one_page_still(self, site: Site) -> None:
        site.host.add_leads("before", overallScore=1)
        site.host.add_job("before", "PENDING")
        run = started(site, limit=10, lanes=2, single_batch=True, pace=only(max_pending=1))
        site.deliver()
        site.host.finish_jobs(1)

        site.deliver_all()

        assert site.read(run.id).pages == 1


class TestEvents:
    def names(self, site: Site) -> list[str]:
        return site.host.values("SELECT name FROM backfill.event ORDER BY id")

    def event(self, site: Site, name: str) -> Row:
        (found,) = site.host.events(name)
        return found

    def test_a_run_s_whole_life_is_told_in_order(self, strict_site: Site) -> None:
        strict_site.host.refuse_jobs_of("lead-001")
        run = started(strict_site, number=3, limit=1)
        strict_site.runs.tune(run.id, {"limit": 2})
        strict_site.runs.pause(run.id, "for lunch")
        strict_site.runs.resume(run.id)
        strict_site.waiting.clear()
        strict_site.watchdog.look(stalled_seconds=0, on_their_way=set)
        strict_site.parts.chain.stop(strict_site.waiting.pop(), "it can't go on")
        strict_site.runs.resume(run.id)
        strict_site.deliver_all()
        strict_site.host.refuse_jobs_of()
        list(strict_site.parts.retrier.retry(run.id))

        assert self.names(strict_site) == [
            "started",
            "tuned",
            "paused",
            "resumed",
            "lane seeded again",
            "lane failed",
            "failed",
            "resumed",
            "complete",
            "retried",
        ]

    def test_every_one_has_its_user_and_host(self, site: Site) -> None:
        run = started(site)
        site.runs.tune(run.id, {"limit": 2})
        site.runs.pause(run.id, "for lunch")
        site.runs.cancel(run.id)

        assert set(site.host.values("SELECT who FROM backfill.event")) == {ledger.who()}
        assert ledger.who().count("@") == 1

    def test_a_start_has_the_parameters(self, site: Site) -> None:
        run = started(site, limit=10, pace=only(max_pending=50))

        assert self.event(site, "started")["detail"]["parameters"] == run.parameters.as_json()

    def test_a_change_has_what_was_and_what_is(self, site: Site) -> None:
        run = started(site, limit=10)
        site.runs.tune(run.id, {"limit": 2, "max_pending": 5})

        assert self.event(site, "tuned")["detail"] == {"limit": [10, 2], "max_pending": [None, 5]}

    def test_a_pause_has_its_reason(self, site: Site) -> None:
        run = started(site)
        site.runs.pause(run.id, "for lunch")

        assert self.event(site, "paused")["detail"] == {"old": "running", "new": "paused", "reason": "for lunch"}

    def test_a_second_pause_is_none(self, site: Site) -> None:
        run = started(site)
        site.runs.pause(run.id, "for lunch")

        assert not site.runs.pause(run.id, "for dinner")
        assert len(site.host.events("paused")) == 1

    def test_a_run_that_used_its_budget_up_has_one_pause_however_many_lanes_find_out(self, site: Site) -> None:
        started(site, limit=10, lanes=4, pace=only(max_jobs=5))

        site.deliver_all()

        assert self.event(site, "paused")["detail"]["reason"] == "its budget of 5 jobs is used up"
