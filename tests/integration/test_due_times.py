"""When jobs come due: spaced evenly over all lanes and pages, and never in the past."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from integration.site import Site
from unbounded import only

from backfill_tasks.engine.model import Run

LEADS = [f"lead-{number:02d}" for number in range(30)]


def spread(site: Site, *, per_minute: float, limit: int = 4, lanes: int = 1) -> Run:
    site.host.add_leads(*LEADS)
    return site.start(limit=limit, lanes=lanes, pace=only(jobs_per_minute=per_minute))


def seconds_between(times: Sequence[datetime]) -> list[float]:
    return [(after - before).total_seconds() for before, after in pairwise(times)]


def most_in_a_minute(times: Sequence[datetime]) -> int:
    """Return the most jobs due within any minute. A minute is 2 ms short: the host stores milliseconds."""
    minute = timedelta(minutes=1) - timedelta(milliseconds=2)
    return max(sum(begin <= each < begin + minute for each in times) for begin in times)


class TestJobsPerMinute:
    @pytest.mark.parametrize("lanes", [1, 3])
    def test_spaces_jobs_evenly_over_all_pages_and_lanes(self, site: Site, lanes: int) -> None:
        spread(site, per_minute=10.0, lanes=lanes)

        site.deliver_all()

        assert seconds_between(site.host.due_times()) == pytest.approx([6.0] * 29, abs=0.002)

    def test_is_the_exact_maximum_of_any_minute(self, site: Site, aside: ThreadPoolExecutor) -> None:
        patient = site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="15000")
        spread(patient, per_minute=7.0, lanes=4, limit=3)
        while patient.waiting:
            taken = [patient.waiting.pop(0) for _ in list(patient.waiting)]
            list(aside.map(patient.parts.chain.step, taken))

        assert len(site.host.due_times()) == len(LEADS)
        assert most_in_a_minute(site.host.due_times()) == 7
        patient.close()

    def test_may_be_less_than_one(self, site: Site) -> None:
        spread(site, per_minute=0.5)

        site.deliver_all()

        assert set(seconds_between(site.host.due_times())) == {120.0}

    def test_counts_rescheduled_jobs_and_skips_other_leads(self, site: Site) -> None:
        spread(site, per_minute=60.0)
        site.host.add_job(LEADS[1], "PENDING")
        site.host.add_job(LEADS[2], "FAILED")
        site.host.add_job(LEADS[3], "RUNNING")
        site.host.do("""UPDATE "Lead" SET "sentimentTag" = 'Bounce' WHERE id = %s""", LEADS[4])

        site.deliver_all()

        (running,) = site.host.values("""SELECT "runAt" FROM "BackgroundJob" WHERE status = 'RUNNING'""")
        times = [each for each in site.host.due_times() if each != running]
        assert seconds_between(times) == pytest.approx([1.0] * 27, abs=0.002)

    def test_schedules_no_job_in_the_past_after_a_pause(self, site: Site) -> None:
        spread(site, per_minute=600.0, limit=10)
        site.deliver()
        site.host.do("UPDATE backfill.run SET due_at = now() - interval '3 days'")
        (before,) = site.host.values("SELECT clock_timestamp() AT TIME ZONE 'UTC'")

        site.deliver_all()

        later = site.host.values("""SELECT "runAt" FROM "BackgroundJob" WHERE "leadId" >= %s ORDER BY 1""", LEADS[10])
        assert min(later) >= before
        assert seconds_between(later) == pytest.approx([0.1] * 19, abs=0.002)

    def test_tuned_rate_applies_to_later_pages_only(self, site: Site) -> None:
        run = spread(site, per_minute=60.0, limit=10)
        site.deliver()

        site.runs.tune(run.id, {"jobs_per_minute": 6.0})
        site.deliver()
        site.deliver()

        assert seconds_between(site.host.due_times()) == pytest.approx([1.0] * 9 + [10.0] * 20, abs=0.002)

    def test_removed_rate_makes_later_jobs_due_at_once(self, site: Site) -> None:
        run = spread(site, per_minute=0.001, limit=10)
        site.deliver()

        site.runs.tune(run.id, {"jobs_per_minute": None})
        site.deliver()

        (now,) = site.host.values("SELECT clock_timestamp() AT TIME ZONE 'UTC'")
        assert sum(each <= now for each in site.host.due_times()) == 10

    def test_resumed_run_continues_the_spacing(self, site: Site) -> None:
        run = spread(site, per_minute=60.0, limit=10)
        site.deliver()
        site.runs.pause(run.id, "for lunch")
        site.runs.resume(run.id)

        site.deliver_all()

        assert seconds_between(site.host.due_times()) == pytest.approx([1.0] * 29, abs=0.002)

    def test_holds_after_a_page_is_bisected(self, strict_site: Site) -> None:
        strict_site.host.refuse_jobs_of(LEADS[5])
        spread(strict_site, per_minute=60.0, limit=10)

        strict_site.deliver_all()

        assert seconds_between(strict_site.host.due_times()) == pytest.approx([1.0] * 28, abs=0.002)

    def test_two_runs_are_spaced_independently(self, site: Site) -> None:
        spread(site, per_minute=60.0, limit=30)
        site.host.add_client("client-2")
        site.host.add_leads("other-1", "other-2", clientId="client-2")
        site.start(pace=only(jobs_per_minute=60.0), client_ids=["client-2"])

        site.deliver_all()

        (other,) = site.host.values("""SELECT min("runAt") FROM "BackgroundJob" WHERE "clientId" = 'client-2'""")
        assert other < site.host.due_times()[5]


class TestDrain:
    @pytest.mark.parametrize(("seconds", "lead"), [(60, 5), (10, 2), (60, 0)])
    def test_jobs_come_due_just_before_the_next_drain(self, site: Site, seconds: int, lead: int) -> None:
        drained = site.with_settings(BACKFILL_DRAIN_SECONDS=str(seconds), BACKFILL_DRAIN_LEAD_SECONDS=str(lead))
        site.host.add_leads(*LEADS)
        drained.start()

        drained.deliver_all()

        (due,) = set(site.host.due_times())
        (page,) = site.host.values("SELECT at AT TIME ZONE 'UTC' FROM backfill.page")
        assert (due.second + lead) % seconds == 0
        assert timedelta() <= due - page <= timedelta(seconds=seconds)
        drained.close()

    def test_unknown_drain_makes_jobs_due_at_once(self, site: Site) -> None:
        site.host.add_leads(*LEADS)
        site.start()

        site.deliver_all()

        (due,) = set(site.host.due_times())
        (page,) = site.host.values("SELECT date_trunc('milliseconds', at AT TIME ZONE 'UTC') FROM backfill.page")
        assert abs(due - page) <= timedelta(milliseconds=1)

    def test_jobs_per_minute_overrides_the_drain(self, site: Site) -> None:
        drained = site.with_settings(BACKFILL_DRAIN_SECONDS="60")
        spread(drained, per_minute=10.0)

        drained.deliver_all()

        assert seconds_between(site.host.due_times()) == pytest.approx([6.0] * 29, abs=0.002)
        drained.close()
