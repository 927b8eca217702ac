"""Reserved jobs (`run --score-here`): out of the host's queue until they come due, and never stranded."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from integration.scoring import Desk
from integration.site import Site
from unbounded import only

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.options import OptionError, Parameters, resolve

HOST_TAKES = "\"runAt\" <= now() AT TIME ZONE 'UTC' AND status = 'PENDING'"


def parameters(**asked: object) -> Parameters:
    return resolve(LeadScoring(), asked=asked, defaults={})


def reserve(site: Site, *, leads: int = 6, **more: object) -> None:
    """Do a whole run whose jobs are reserved."""
    site.host.add_leads(*(f"lead-{number}" for number in range(leads)))
    site.whole_run(limit=2, score_here=True, pace=only(**more))


class TestWhenTheyComeDue:
    def test_the_host_s_runner_sees_none_of_them_for_a_day(self, site: Site) -> None:
        reserve(site, jobs_per_minute=10.0)

        day = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=24)
        assert site.host.rows(f'SELECT FROM "BackgroundJob" WHERE {HOST_TAKES}') == []
        assert day - timedelta(minutes=2) < site.host.due_times()[0] < day + timedelta(minutes=1)

    def test_they_are_spread_at_the_pace_that_the_host_can_take(self, site: Site) -> None:
        reserve(site, jobs_per_minute=10.0)

        spaces = [(after - before).total_seconds() for before, after in pairwise(site.host.due_times())]
        assert spaces == pytest.approx([6.0] * 5, abs=0.002)

    def test_without_a_pace_they_come_due_together_after_the_reserve(self, site: Site) -> None:
        site.host.add_leads("lead-1")
        site.whole_run(score_here=True, reserve_hours=2)

        (due,) = site.host.due_times()
        assert timedelta(hours=1.9) < due - datetime.now(UTC).replace(tzinfo=None) < timedelta(hours=2)


class TestBounds:
    def test_a_reserved_run_has_no_bound_of_the_host_s_queue_by_default(self) -> None:
        pace = parameters(score_here=True).pace

        assert (pace.max_pending, pace.max_live_wait, pace.jobs_per_minute) == (None, 0.0, 10.0)

    def test_a_pace_that_was_asked_for_stays(self) -> None:
        assert parameters(score_here=True, jobs_per_minute=3.0).pace.jobs_per_minute == 3.0

    def test_another_run_keeps_its_bounds(self) -> None:
        assert parameters().pace.max_pending == "auto"

    @pytest.mark.parametrize("most", ["auto", 1])
    def test_max_pending_bounds_no_page_of_a_reserved_run(self, site: Site, most: object) -> None:
        reserve(site, max_pending=most)

        assert len(site.host.due_times()) == 6
        assert (
            site.host.rows("SELECT FROM backfill.page WHERE NOT coalesce((counts ->> 'read')::int, 0) IN (0, 2)") == []
        )

    def test_a_due_time_of_its_own_contradicts_it(self) -> None:
        with pytest.raises(OptionError, match="contradicts"):
            parameters(score_here=True, delay_ms=5)

    def test_reserved_jobs_take_up_no_room_of_another_run(self, site: Site) -> None:
        reserve(site)

        with site.engine.begin() as connection:
            assert LeadScoring().pending(connection, 100) == 0

    def test_jobs_that_our_scorers_hold_take_up_no_room_of_another_run(self, desk: Desk) -> None:
        desk.add("ours", "theirs")
        desk.claim()
        desk.site.host.do('UPDATE "BackgroundJob" SET "lockedBy" = \'cron\' WHERE "leadId" = \'theirs\'')

        with desk.site.engine.begin() as connection:
            assert LeadScoring().pending(connection, 100) == 1


class TestScoring:
    def test_our_workers_score_them_at_once(self, desk: Desk) -> None:
        reserve(desk.site, jobs_per_minute=10.0)

        session = desk.until_done()

        assert session.written.scored == 6

    def test_the_host_takes_over_what_our_workers_leave(self, desk: Desk) -> None:
        reserve(desk.site)
        desk.claim(2)
        desk.site.host.do('UPDATE "BackgroundJob" SET "lockedAt" = "lockedAt" - interval \'1 hour\'')
        desk.release()

        desk.site.host.do('UPDATE "BackgroundJob" SET "runAt" = "runAt" - interval \'25 hours\'')

        assert len(desk.site.host.rows(f'SELECT FROM "BackgroundJob" WHERE {HOST_TAKES}')) == 6
