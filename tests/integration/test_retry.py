"""Retrying quarantined leads: a lead that succeeds is counted as if it had never failed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from integration.site import Site
from unbounded import only

from backfill_tasks.engine import ledger
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.quarantine import Tried
from backfill_tasks.engine.states import RunState
from backfill_tasks.options import Pace

LEADS = ("lead-1", "lead-2", "lead-3", "lead-4", "lead-5")
REFUSED = ("lead-2", "lead-4")


def quarantined(site: Site, *, pace: Pace | None = None, limit: int = 3, lanes: int = 1) -> Run:
    """Do a run with two of five leads in quarantine; afterwards the database accepts their jobs."""
    site.host.add_leads(*LEADS)
    site.host.refuse_jobs_of(*REFUSED)
    run = site.whole_run(limit=limit, lanes=lanes, pace=pace)
    assert (run.state, run.counts["quarantined"]) == ("complete", 2)
    site.host.refuse_jobs_of()
    return run


def retry(site: Site, run: Run) -> list[Tried]:
    return list(site.parts.retrier.retry(run.id))


def errors(site: Site) -> dict[str, str]:
    """Return the errors in quarantine, by lead."""
    return {row["item"]: row["error"] for row in site.host.rows("SELECT item, error FROM backfill.quarantine")}


def page_counts(site: Site) -> dict[str, int]:
    """Return the non-zero counts, summed over all pages."""
    rows = site.host.rows(
        "SELECT key, sum(value::int)::int AS number FROM backfill.page, jsonb_each_text(counts) GROUP BY key"
    )
    return {row["key"]: row["number"] for row in rows if row["number"]}


class TestSuccess:
    def test_leads_get_their_jobs_and_leave_the_quarantine(self, strict_site: Site) -> None:
        run = quarantined(strict_site)

        assert [(each.item, each.outcome) for each in retry(strict_site, run)] == [
            (lead, "went through") for lead in REFUSED
        ]
        assert strict_site.host.enqueued() == list(LEADS)
        assert errors(strict_site) == {}

    def test_leads_are_counted_as_if_they_had_never_failed(self, strict_site: Site) -> None:
        run = quarantined(strict_site, lanes=2)

        retry(strict_site, run)

        found = strict_site.read(run.id)
        assert {name: number for name, number in found.counts.items() if number} == {"read": 5, "inserted": 5}
        assert page_counts(strict_site) == {"read": 5, "inserted": 5}

    def test_run_verifies_clean_with_every_count_in_the_database(self, strict_site: Site) -> None:
        run = quarantined(strict_site, lanes=2)

        retry(strict_site, run)

        verification = strict_site.verify(run.id)
        assert verification.clean
        assert verification.found["inserted"] == (5, 5)

    def test_jobs_come_due_after_the_runs_last_job(self, strict_site: Site) -> None:
        run = quarantined(strict_site, pace=only(jobs_per_minute=60.0))
        last = max(strict_site.host.due_times())

        retry(strict_site, run)

        assert [(due - last).total_seconds() for due in strict_site.host.due_times()[-2:]] == pytest.approx(
            [1, 2], abs=0.002
        )

    def test_ordinals_continue_the_runs(self, strict_site: Site) -> None:
        strict_site.host.add_leads(*LEADS)
        strict_site.host.refuse_jobs_of(*REFUSED)
        run = strict_site.whole_run(limit=3, delay_ms=1_000)
        strict_site.host.refuse_jobs_of()

        retry(strict_site, run)

        assert strict_site.read(run.id).ordinal == 5
        assert len(set(strict_site.host.due_times())) == 5

    @pytest.mark.parametrize("state", ["running", "paused", "failed", "complete"])
    def test_retry_works_in_every_state_except_cancelled(self, strict_site: Site, state: RunState) -> None:
        run = quarantined(strict_site)
        strict_site.host.do("UPDATE backfill.run SET state = %s", state)

        assert {each.outcome for each in retry(strict_site, run)} == {"went through"}
        assert strict_site.read(run.id).state == state

    def test_retry_does_not_disturb_a_run_in_progress(self, strict_site: Site) -> None:
        strict_site.host.add_leads(*LEADS)
        strict_site.host.refuse_jobs_of(*REFUSED)
        run = strict_site.start(limit=3)
        strict_site.deliver()
        strict_site.host.refuse_jobs_of()

        retry(strict_site, run)
        strict_site.deliver_all()

        assert strict_site.read(run.id).state == "complete"
        assert strict_site.host.enqueued() == list(LEADS)
        assert strict_site.verify(run.id).clean


class TestRepeatedFailure:
    def test_leads_stay_in_quarantine_with_their_new_error(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        strict_site.host.refuse_jobs_of("lead-4", saying="still no job")

        tried = retry(strict_site, run)

        told = "the host's function refuse() raised an error (23514)"
        assert tried[1] == Tried("lead-4", "failed again", told, "still no job (23514)")
        assert errors(strict_site) == {"lead-4": told}

    def test_other_leads_still_succeed(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        strict_site.host.refuse_jobs_of("lead-2")

        assert [each.outcome for each in retry(strict_site, run)] == ["failed again", "went through"]

    def test_counts_stay_the_same(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        strict_site.host.refuse_jobs_of(*REFUSED)

        retry(strict_site, run)

        assert strict_site.read(run.id).counts == run.counts
        assert not strict_site.verify(run.id).wrong


class TestChangedLeads:
    def test_deleted_lead_leaves_the_quarantine_and_the_counts(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        strict_site.host.do("""DELETE FROM "Message" WHERE "leadId" = 'lead-2'""")
        strict_site.host.do("""DELETE FROM "Lead" WHERE id = 'lead-2'""")

        retry(strict_site, run)

        assert errors(strict_site) == {}
        assert strict_site.read(run.id).counts["read"] == 4
        assert strict_site.verify(run.id).clean

    def test_scored_lead_gets_no_job(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        strict_site.host.do("""UPDATE "Lead" SET "overallScore" = 7 WHERE id = 'lead-2'""")

        retry(strict_site, run)

        assert strict_site.host.job("lead-2") is None
        assert strict_site.verify(run.id).clean

    def test_disqualified_lead_is_scored(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        strict_site.host.do("""UPDATE "Lead" SET "sentimentTag" = 'Blacklist' WHERE id = 'lead-2'""")

        retry(strict_site, run)

        assert strict_site.host.lead("lead-2")["overallScore"] == 1
        assert strict_site.read(run.id).counts["disqualified"] == 1
        verification = strict_site.verify(run.id)
        assert verification.clean
        assert verification.found["disqualified"] == (1, 1)


class TestConcurrentRetries:
    def test_concurrent_retries_do_each_lead_once(self, strict_site: Site, aside: ThreadPoolExecutor) -> None:
        run = quarantined(strict_site)
        patient = strict_site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="15000")

        tried = [each for one in aside.map(lambda _: retry(patient, run), range(4)) for each in one]

        assert sorted((each.item, each.outcome) for each in tried) == [(lead, "went through") for lead in REFUSED]
        assert strict_site.host.enqueued() == list(LEADS)
        assert strict_site.verify(run.id).clean
        patient.close()

    def test_second_retry_is_a_no_op(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        retry(strict_site, run)

        assert retry(strict_site, run) == []
        assert len(strict_site.host.events("retried")) == 1


class TestHeld:
    def test_retry_stops_at_the_bound_on_pending_jobs(self, strict_site: Site) -> None:
        run = quarantined(strict_site, pace=only(max_pending=4))

        tried = retry(strict_site, run)

        assert [(each.item, each.outcome) for each in tried] == [("lead-2", "went through"), ("lead-4", "held")]
        assert tried[1].reason == "no room in the host's queue: 4 jobs wait, ours and due live ones"
        assert list(errors(strict_site)) == ["lead-4"]

    def test_retry_stops_at_the_runs_budget(self, strict_site: Site) -> None:
        run = quarantined(strict_site, pace=only(max_jobs=3))

        (tried,) = retry(strict_site, run)

        assert (tried.outcome, tried.reason) == ("held", "its budget of 3 jobs is used up")
        assert strict_site.read(run.id).state == "complete"

    def test_retry_stops_at_a_transient_error_and_changes_nothing(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        quick = strict_site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="20")

        with strict_site.host.session() as other:
            other.execute("SELECT FROM backfill.lane FOR UPDATE")
            (tried,) = retry(quick, run)

        assert (tried.item, tried.outcome) == ("lead-2", "held")
        assert "lock timeout" in tried.reason
        assert set(errors(strict_site)) == set(REFUSED)
        quick.close()


class TestEvent:
    def test_event_has_the_number_retried_and_left(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        strict_site.host.refuse_jobs_of("lead-4")

        retry(strict_site, run)

        (event,) = strict_site.host.events("retried")
        assert event["detail"] == {"went through": 1, "left": 1}
        assert event["who"] == ledger.who()

    def test_interrupted_retry_records_its_event(self, strict_site: Site) -> None:
        run = quarantined(strict_site)
        tries = strict_site.parts.retrier.retry(run.id)
        next(tries)

        tries.close()

        (event,) = strict_site.host.events("retried")
        assert event["detail"] == {"went through": 1, "left": 1}

    def test_empty_quarantine_records_no_event(self, strict_site: Site) -> None:
        strict_site.host.add_leads(*LEADS)
        run = strict_site.whole_run()

        assert retry(strict_site, run) == []
        assert strict_site.host.events("retried") == []
