"""Existing jobs: how each status is handled, alike in the dry run and the run, and which columns are reset."""

import pytest
from integration.site import Site, classes

STATUSES = ("PENDING", "RUNNING", "SUCCEEDED", "FAILED")


@pytest.fixture
def newer_host(own_site: Site) -> Site:
    """Return a newer host with one more job status, a lead per status, and one without a job."""
    own_site.host.do("""ALTER TYPE "BackgroundJobStatus" ADD VALUE 'CANCELLED'""")
    for status in (*STATUSES, "CANCELLED"):
        own_site.host.add_leads(status)
        own_site.host.add_job(status, status)
    own_site.host.add_leads("no-job")
    own_site.host.add_leads("opted-out", sentimentTag="Opt Out")
    return own_site


def test_dry_run_and_run_agree_on_an_unknown_status(newer_host: Site) -> None:
    dry = newer_host.dry_run()

    wet = newer_host.page()

    assert classes(dry) == classes(wet)
    assert sum(classes(dry).values()) == dry.counts["read"]
    assert classes(wet) == {"inserted": 1, "requeued": 2, "refreshed": 1, "in_flight": 2, "disqualified": 1}


@pytest.mark.parametrize("status", ["RUNNING", "CANCELLED"])
def test_job_in_flight_or_of_unknown_status_is_left_alone(newer_host: Site, status: str) -> None:
    before = newer_host.host.versions()

    newer_host.page()

    assert newer_host.host.versions()["BackgroundJob", f"job-{status}"] == before["BackgroundJob", f"job-{status}"]


def test_job_without_a_status_is_left_alone(own_site: Site) -> None:
    own_site.host.do('ALTER TABLE "BackgroundJob" ALTER status DROP NOT NULL')
    own_site.host.add_leads("a")
    own_site.host.add_job("a", "PENDING")
    own_site.host.do('UPDATE "BackgroundJob" SET status = NULL')

    dry, wet = own_site.dry_run(), own_site.page()

    assert classes(dry) == classes(wet) == {"in_flight": 1}


@pytest.mark.parametrize("status", ["PENDING", "SUCCEEDED", "FAILED"])
def test_reset_job_equals_a_new_one(site: Site, status: str) -> None:
    site.host.add_client("client-2")
    site.host.add_leads("moved", "other", clientId="client-2")
    stale = {"clientId": "client-1", "leadId": "other", "type": "CONVERSATION_SYNC", "maxAttempts": 9}
    site.host.add_job("moved", status, **stale)

    site.page(upper="moved")

    job = site.host.job("moved")
    assert job is not None
    assert {name: job[name] for name in stale} == {
        "clientId": "client-2",
        "leadId": "moved",
        "type": "LEAD_SCORING_POST_PROCESS",
        "maxAttempts": 3,
    }
