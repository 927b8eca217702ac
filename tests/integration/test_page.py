"""The page statement: which leads it reads, what it writes, where it ends, and what it leaves alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from integration.site import NOON, STARTED, Site, classes, own_options
from sqlalchemy import text

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.engine.contract import PageContext
from backfill_tasks.engine.model import Bounds, Window
from backfill_tasks.engine.page.statement import PAGE_ROWS
from sandbox.host.sample import create_schema

DISQUALIFYING = ("Blacklist", "Opt Out", "Opted Out", "Unsubscribe", "Unsubscribed", "Bounced", "Bounce")
NEAR_MISSES = (
    "blacklist",
    "OPT OUT",
    "Opt-Out",
    " Bounced",
    "Bounced ",
    "Bounces",
    "Unsubscrib",
    "",
    "Interested",
    None,
)


def leads(*numbers: int) -> list[str]:
    return [f"lead-{number:02d}" for number in numbers]


class TestSelection:
    def test_unscored_lead_with_an_inbound_message_is_read(self, site: Site) -> None:
        site.host.add_leads("a")

        assert site.page().counts["read"] == 1

    def test_lead_without_an_inbound_message_is_not_read(self, site: Site) -> None:
        site.host.add_leads("a", inbound=0)
        site.host.add_message("out", "a", direction="outbound")

        assert site.page().counts["read"] == 0

    def test_scored_lead_is_not_read(self, site: Site) -> None:
        site.host.add_leads("a", overallScore=3)

        assert site.page().counts["read"] == 0

    def test_scored_lead_is_read_with_rescore_all(self, site: Site) -> None:
        site.host.add_leads("a", overallScore=3)

        assert classes(site.page(rescore_all=True)) == {"inserted": 1}

    def test_only_the_named_workspaces_are_read(self, site: Site) -> None:
        for client in ("client-2", "client-3"):
            site.host.add_client(client)
            site.host.add_leads(f"of {client}", clientId=client)
        site.host.add_leads("of client-1")

        site.page(client_ids=["client-1", "client-3"])

        assert site.host.enqueued() == ["of client-1", "of client-3"]

    def test_bounds_exclude_the_lower_and_include_the_upper(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c", "d")

        site.page(lower="a", upper="c")

        assert site.host.enqueued() == ["b", "c"]


class TestAnchor:
    def test_newest_inbound_message_is_the_anchor(self, site: Site) -> None:
        site.host.add_leads("a", inbound=0)
        for name, minutes in (("z-old", 1), ("b-newest", 3), ("y-older", 2)):
            site.host.add_message(name, "a", sentAt=NOON + timedelta(minutes=minutes))

        site.page()

        job = site.host.job("a")
        assert job is not None
        assert job["messageId"] == "b-newest"

    def test_newer_outbound_message_is_not_the_anchor(self, site: Site) -> None:
        site.host.add_leads("a")
        site.host.add_message("answer", "a", direction="outbound", sentAt=NOON + timedelta(days=1))

        site.page()

        job = site.host.job("a")
        assert job is not None
        assert job["messageId"] == "a/1"

    @pytest.mark.parametrize("arrival", [("m-1", "m-2", "m-3"), ("m-3", "m-2", "m-1"), ("m-2", "m-3", "m-1")])
    def test_tie_between_messages_is_deterministic(self, site: Site, arrival: tuple[str, ...]) -> None:
        site.host.add_leads("a", inbound=0)
        for name in arrival:
            site.host.add_message(name, "a", sentAt=NOON)

        site.page()

        job = site.host.job("a")
        assert job is not None
        assert job["messageId"] == "m-3"

    @pytest.mark.parametrize("status", ["PENDING", "SUCCEEDED", "FAILED"])
    def test_existing_jobs_anchor_is_renewed(self, site: Site, status: str) -> None:
        site.host.add_leads("a", inbound=2)
        site.host.add_job("a", status, messageId="a/1")

        site.page()

        job = site.host.job("a")
        assert job is not None
        assert job["messageId"] == "a/2"


class TestClasses:
    def test_lead_without_a_job_gets_one(self, site: Site) -> None:
        site.host.add_leads("a")

        assert classes(site.page()) == {"inserted": 1}

    @pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
    def test_finished_job_is_requeued(self, site: Site, status: str) -> None:
        site.host.add_leads("a")
        site.host.add_job("a", status)

        assert classes(site.page()) == {"requeued": 1}

    def test_pending_job_is_refreshed(self, site: Site) -> None:
        site.host.add_leads("a")
        site.host.add_job("a", "PENDING")

        assert classes(site.page()) == {"refreshed": 1}

    def test_running_job_is_in_flight(self, site: Site) -> None:
        site.host.add_leads("a")
        site.host.add_job("a", "RUNNING")

        assert classes(site.page()) == {"in_flight": 1}

    @pytest.mark.parametrize("tag", DISQUALIFYING)
    def test_lead_with_a_disqualifying_tag_is_disqualified(self, site: Site, tag: str) -> None:
        site.host.add_leads("a", sentimentTag=tag)

        assert classes(site.page()) == {"disqualified": 1}

    @pytest.mark.parametrize("tag", NEAR_MISSES)
    def test_similar_tag_does_not_disqualify(self, site: Site, tag: str | None) -> None:
        site.host.add_leads("a", sentimentTag=tag)

        assert classes(site.page()) == {"inserted": 1}

    def test_lead_status_is_ignored(self, site: Site) -> None:
        site.host.add_leads("a", status="unqualified")

        assert classes(site.page()) == {"inserted": 1}

    def test_each_lead_of_a_page_has_one_class(self, sample_site: Site) -> None:
        result = sample_site.page(limit=2_000)

        assert set(classes(result)) == {"inserted", "requeued", "refreshed", "in_flight", "disqualified"}
        assert sum(classes(result).values()) == result.counts["read"]

    def test_dry_run_counts_match_the_page(self, sample_site: Site) -> None:
        counted = sample_site.dry_run(limit=300)

        done = sample_site.page(limit=300)

        assert (done.cursor, classes(done)) == (counted.cursor, classes(counted))


class TestJobs:
    def test_new_job_matches_the_hosts_format(self, site: Site) -> None:
        site.host.add_leads("a", inbound=2)

        site.page()

        job = site.host.job("a")
        assert job is not None
        written = {name: job.pop(name) for name in ("id", "runAt", "createdAt", "updatedAt")}
        assert job == {
            "type": "LEAD_SCORING_POST_PROCESS",
            "status": "PENDING",
            "dedupeKey": "lead_scoring_backfill:a",
            "clientId": "client-1",
            "leadId": "a",
            "messageId": "a/2",
            "draftId": None,
            "attempts": 0,
            "maxAttempts": 3,
            "lockedAt": None,
            "lockedBy": None,
            "startedAt": None,
            "finishedAt": None,
            "lastError": None,
        }
        assert written["id"]
        assert NOON < written["createdAt"] == written["updatedAt"] <= written["runAt"]

    @pytest.mark.parametrize("status", ["PENDING", "SUCCEEDED", "FAILED"])
    def test_existing_job_is_reset(self, site: Site, status: str) -> None:
        site.host.add_leads("a", inbound=2)
        site.host.add_job("a", status)
        before = site.host.job("a")

        site.page()

        job = site.host.job("a")
        assert before is not None
        assert job is not None
        assert NOON < job["updatedAt"] <= job["runAt"]
        assert job == {
            **before,
            "status": "PENDING",
            "messageId": "a/2",
            "attempts": 0,
            "runAt": job["runAt"],
            "updatedAt": job["updatedAt"],
            "lockedAt": None,
            "lockedBy": None,
            "startedAt": None,
            "finishedAt": None,
            "lastError": None,
        }

    @pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
    def test_job_times_are_utc_in_any_session_time_zone(self, site: Site, zone: str) -> None:
        site.host.add_leads("a")
        before = datetime.now(UTC).replace(tzinfo=None)

        with site.engine.begin() as connection:
            connection.execute(text("SELECT set_config('TimeZone', :zone, true)"), {"zone": zone})
            window = Window(Bounds(None, "a"), 1, 1)
            options = own_options()
            LeadScoring().page(connection, window, PageContext(options, STARTED, 0))

        job = site.host.job("a")
        assert job is not None
        assert abs(job["runAt"] - before) < timedelta(minutes=5)

    def test_job_ids_differ(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c")

        site.page()

        assert site.host.values('SELECT count(DISTINCT id) FROM "BackgroundJob"') == [3]


class TestSpreading:
    def test_nth_job_is_due_n_delays_after_the_start(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c")

        site.page(delay_ms=250)

        assert due(site) == {"a": 250, "b": 500, "c": 750}

    def test_ordinals_continue_from_earlier_pages(self, site: Site) -> None:
        site.host.add_leads("a", "b")

        site.page(delay_ms=1_000, ordinal=40)

        assert due(site) == {"a": 41_000, "b": 42_000}

    def test_only_leads_with_a_written_job_have_an_ordinal(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c", "e")
        site.host.add_leads("d", sentimentTag="Blacklist")
        site.host.add_job("a", "SUCCEEDED")
        site.host.add_job("b", "RUNNING")
        site.host.add_job("c", "PENDING")

        result = site.page(delay_ms=10)

        assert result.numbered == 3
        assert {lead: at for lead, at in due(site).items() if lead != "b"} == {"a": 10, "c": 20, "e": 30}

    def test_long_run_may_spread_jobs_over_years(self, site: Site) -> None:
        site.host.add_leads("a")

        site.page(delay_ms=86_400_000, ordinal=9_999)

        assert due(site) == {"a": 10_000 * 86_400_000}


def due(site: Site) -> dict[str, int]:
    """Return how many milliseconds after the run's start each lead's job is due."""
    rows = site.host.rows('SELECT "leadId", "runAt" FROM "BackgroundJob"')
    started = STARTED.replace(tzinfo=None)
    return {row["leadId"]: (row["runAt"] - started) // timedelta(milliseconds=1) for row in rows}


class TestDisqualified:
    def test_disqualified_lead_gets_score_one_and_the_reason(self, site: Site) -> None:
        site.host.add_leads("a", sentimentTag="Opted Out")

        site.page()

        lead = site.host.lead("a")
        assert (lead["fitScore"], lead["intentScore"], lead["overallScore"]) == (1, 1, 1)
        assert lead["scoreReasoning"] == "Automatically disqualified: Opted Out"
        assert lead["scoredAt"] > NOON

    def test_no_other_column_changes_including_updated_at(self, site: Site) -> None:
        site.host.add_leads("a", sentimentTag="Bounced")
        before = site.host.lead("a")

        site.page()

        changed = {name for name, value in site.host.lead("a").items() if value != before[name]}
        assert changed == {"fitScore", "intentScore", "overallScore", "scoreReasoning", "scoredAt"}

    def test_disqualified_lead_gets_no_job(self, site: Site) -> None:
        site.host.add_leads("a", sentimentTag="Blacklist")

        site.page()

        assert site.host.enqueued() == []

    def test_disqualified_leads_existing_job_is_left_alone(self, site: Site) -> None:
        site.host.add_leads("a", sentimentTag="Blacklist")
        site.host.add_job("a", "PENDING")
        before = site.host.job("a")

        site.page()

        assert site.host.job("a") == before

    def test_older_score_is_overwritten_with_rescore_all(self, site: Site) -> None:
        site.host.add_leads("a", sentimentTag="Bounce", overallScore=4, fitScore=4)

        site.page(rescore_all=True)

        lead = site.host.lead("a")
        assert (lead["fitScore"], lead["overallScore"]) == (1, 1)


class TestPageEnd:
    def test_full_page_ends_at_its_last_lead(self, site: Site) -> None:
        site.host.add_leads(*leads(1, 2, 3, 4, 5))

        result = site.page(limit=3)

        assert (result.cursor, result.counts["read"]) == ("lead-03", 3)
        assert site.host.enqueued() == leads(1, 2, 3)

    def test_last_page_ends_at_the_upper_bound(self, site: Site) -> None:
        site.host.add_leads(*leads(1, 2, 3))

        assert site.page(limit=4, upper="lead-99").cursor == "lead-99"

    def test_page_with_exactly_the_rest_ends_at_its_last_lead(self, site: Site) -> None:
        site.host.add_leads(*leads(1, 2, 3))

        assert site.page(limit=3).cursor == "lead-03"

    def test_range_without_eligible_leads_just_moves_the_cursor(self, site: Site) -> None:
        site.host.add_leads(*leads(1, 2, 3), overallScore=2)
        before = site.host.versions()

        result = site.page()

        assert (result.cursor, set(result.counts.values()), result.numbered) == ("lead-03", {0}, 0)
        assert site.host.versions() == before

    def test_range_without_rows_just_moves_the_cursor(self, site: Site) -> None:
        assert site.page(lower="a", upper="b").cursor == "b"

    def test_page_ends_at_the_row_limit_even_if_it_is_not_full(self, site: Site) -> None:
        site.host.add_leads(*leads(*range(1, 13)), overallScore=2)
        site.host.add_leads(*leads(13, 14))

        result = site.page(rows=10)

        assert (result.cursor, result.counts["read"]) == ("lead-10", 0)

    def test_leads_within_the_row_limit_are_done(self, site: Site) -> None:
        site.host.add_leads(*leads(*range(1, 10), 11, 12), overallScore=2)
        site.host.add_leads(*leads(10, 13))

        result = site.page(rows=10)

        assert result.cursor == "lead-10"
        assert site.host.enqueued() == leads(10)

    @pytest.mark.parametrize("rows", [3, 4])
    def test_last_rows_end_at_the_upper_bound(self, site: Site, rows: int) -> None:
        site.host.add_leads(*leads(1, 2, 3), overallScore=2)

        assert site.page(rows=rows).cursor == "lead-03"

    def test_successive_pages_do_each_lead_once(self, site: Site) -> None:
        site.host.add_leads(*leads(*range(1, 20, 3)))
        site.host.add_leads(*leads(*range(2, 20, 3)), overallScore=2)

        cursor, read = None, 0
        while cursor != site.last_lead():
            result = site.page(lower=cursor, limit=2, rows=5)
            cursor, read = result.cursor, read + result.counts["read"]

        assert read == 7
        assert site.host.enqueued() == leads(*range(1, 20, 3))

    def test_every_page_of_a_run_respects_both_limits(self, sample_site: Site) -> None:
        run = sample_site.whole_run(limit=7)

        seen = "SELECT count(*) FROM \"Lead\" WHERE id > coalesce(page.lower, '') AND id <= page.cursor"
        statement = f"SELECT ({seen}) AS seen, (counts->>'read')::int AS read FROM backfill.page WHERE run_id = %s"
        pages = sample_site.host.rows(statement, run.id)
        assert max(page["seen"] for page in pages) <= PAGE_ROWS
        assert {page["read"] for page in pages[:-1]} == {7}


class TestLeftAlone:
    def test_running_job_is_not_touched(self, site: Site) -> None:
        site.host.add_leads("a", inbound=3)
        site.host.add_job("a", "RUNNING")
        before = site.host.versions()

        site.page(rescore_all=True, delay_ms=10)

        assert site.host.versions() == before

    def test_host_jobs_are_not_touched(self, site: Site) -> None:
        site.host.add_leads("a")
        for status in ("PENDING", "RUNNING", "SUCCEEDED", "FAILED"):
            site.host.add_job("a", status, id=f"live {status}", dedupeKey=f"lead_scoring:a:{status}")
            site.host.add_job(
                "a", status, id=f"sync {status}", dedupeKey=f"sync:a:{status}", type="CONVERSATION_SYNC", lockedBy=None
            )
        before = site.host.versions()

        site.page()

        after = site.host.versions()
        assert {key: row for key, row in after.items() if key in before} == before
        assert len(after) == len(before) + 1

    def test_only_the_pages_rows_are_written(self, sample_site: Site) -> None:
        before = sample_site.host.versions()

        result = sample_site.page(limit=200)

        after = sample_site.host.versions()
        changed = [key for key in before if after.get(key) != before[key]]
        expected = {"BackgroundJob": ("requeued", "refreshed"), "Lead": ("disqualified",)}
        assert {
            table: sum(key[0] == table for key in changed)
            for table in ("Client", "WorkspaceSettings", "Message", *expected)
        } == {
            "Client": 0,
            "WorkspaceSettings": 0,
            "Message": 0,
            **{table: sum(result.counts[name] for name in names) for table, names in expected.items()},
        }
        assert len(after) - len(before) == result.counts["inserted"]

    def test_dry_run_writes_nothing(self, sample_site: Site) -> None:
        before = sample_site.host.versions()

        sample_site.dry_run(limit=2_000, rescore_all=True)

        assert sample_site.host.versions() == before


class TestSchema:
    @pytest.mark.parametrize("name", ["crm", 'My "CRM"', "50%s {host} :lower", "größe"])
    def test_host_schema_may_have_any_name(self, own_site: Site, name: str) -> None:
        create_schema(own_site.host.connection, schema=name)
        own_site.host.do("SELECT set_config('search_path', quote_ident(%s), false)", name)
        own_site.host.add_client("client-1")
        own_site.host.add_leads("a")
        backfill = LeadScoring(name)
        context = PageContext(own_options(), STARTED, 0)

        with own_site.engine.begin() as connection:
            uppers = backfill.split(connection, context.options, after=None, lanes=1, smallest=1)
            result = backfill.page(connection, Window(Bounds(None, uppers[0]), 10, 10), context)

        assert classes(result) == {"inserted": 1}
        assert own_site.host.enqueued() == ["a"]


def test_unusual_ids_are_taken_literally(site: Site) -> None:
    ids: list[Any] = ["%", "%s", "%(limit)s", ":lower", "a'b", 'a"b', "a\\b", "{host}", "$1", "NULL", "\t", "é", "😀"]
    site.host.add_leads(*ids)

    site.page(limit=4, upper="😀" * 9)

    assert len(site.host.enqueued()) == 4
