"""The distribution of a run's scores, by workspace, on hosts whose rows are odd."""

from datetime import timedelta

import pytest
from integration.plans import explained
from integration.scoring import Desk, Obedient
from integration.site import Site

from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.distribution import Distribution, Group
from backfill_tasks.engine.model import Run

SCORE = 'UPDATE "Lead" SET "overallScore" = %s, "scoredAt" = now() AT TIME ZONE \'UTC\' WHERE id = %s'

#: The host's runner writes the lead and the job one after the other.
HOST_ENDS = """
UPDATE "BackgroundJob" SET status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC' + interval '2 ms'
WHERE "leadId" = %s
"""

#: 3,000 workspaces of one lead each.
THOUSANDS = (
    """
    INSERT INTO "Client" (id, name, "userId", "updatedAt")
    SELECT 'ws-' || number, 'x', 'x', now() FROM generate_series(1, 3000) AS number
    """,
    """
    INSERT INTO "Lead" (id, "clientId", "createdAt", "updatedAt")
    SELECT 'lead-' || number, 'ws-' || number, '2020-01-01', now() FROM generate_series(1, 3000) AS number
    """,
    """
    INSERT INTO "Message" (id, "leadId", direction, body) SELECT id, id, 'inbound', 'Hello' FROM "Lead"
    """,
)


@pytest.fixture
def desk(site: Site) -> Desk:
    return Desk(site, Obedient())


def distribution(site: Site, run: Run) -> Distribution:
    with site.engine.begin() as connection:
        found = site.parts.backfills[run.parameters.backfill].distribution(connection, site.read(run.id))
    assert found is not None
    return found


def only(found: Distribution) -> Group:
    (group,) = found.groups
    return group


def score_by_host(site: Site, lead: str, score: int | None) -> None:
    site.host.do(SCORE, score, lead)
    site.host.do(HOST_ENDS, lead)


def add_workspaces(site: Site, *clients: str, leads: int = 1) -> None:
    """Add workspaces, each with leads `<client>/<number>`."""
    for client in clients:
        site.host.add_client(client)
        site.host.add_leads(*(f"{client}/{number}" for number in range(leads)), clientId=client)


def test_scores_are_counted_by_their_source(desk: Desk) -> None:
    site = desk.site
    site.host.add_leads("lead-1", "lead-2", "lead-3", "lead-4")
    site.host.add_leads("lead-5", sentimentTag="Opt Out")
    run = site.whole_run()
    score_by_host(site, "lead-1", 4)
    site.host.do("UPDATE \"Lead\" SET \"sentimentTag\" = 'Bounced' WHERE id = 'lead-2'")
    site.host.do("UPDATE \"BackgroundJob\" SET status = 'FAILED' WHERE \"leadId\" = 'lead-3'")
    desk.until_done()

    group = only(distribution(site, run))

    assert dict(group.sources) == {"host": 1, "here": 1, "disqualified": 2}
    assert dict(group.results) == {"1": 2, "2": 1, "4": 1}
    assert (group.without, group.done, group.items) == (1, 4, 5)


def test_a_lead_that_the_host_scores_again_counts_as_the_hosts(desk: Desk) -> None:
    desk.site.host.add_leads("lead-1")
    run = desk.site.whole_run()
    desk.until_done()
    desk.site.host.do(SCORE, 4, "lead-1")

    group = only(distribution(desk.site, run))

    assert (dict(group.results), dict(group.sources)) == ({"4": 1}, {"host": 1})


def test_existing_scores_of_the_same_workspaces_are_counted_beside_the_runs(site: Site) -> None:
    add_workspaces(site, "other")
    site.host.do(SCORE, 2, "other/0")
    site.host.add_leads("lead-1", "lead-2", "lead-3")
    for lead, score in (("lead-2", 3), ("lead-3", 3)):
        site.host.do(SCORE, score, lead)
    run = site.whole_run()
    score_by_host(site, "lead-1", 3)

    group = only(distribution(site, run))

    assert (group.name, dict(group.results), dict(group.beside)) == ("client-1", {"3": 1}, {"3": 2})


@pytest.mark.parametrize("score", [0, 5, -1, 2_147_483_647])
def test_a_score_out_of_range_is_another(site: Site, score: int) -> None:
    site.host.add_leads("lead-1", "lead-2")
    run = site.whole_run()
    score_by_host(site, "lead-1", score)

    found = distribution(site, run)

    assert found.results == ("1", "2", "3", "4", "other")
    assert (dict(only(found).results), only(found).without) == ({"other": 1}, 1)


def test_leads_of_a_deleted_workspace_are_the_rest(site: Site) -> None:
    add_workspaces(site, "gone", leads=3)
    site.host.add_leads("lead-1")
    run = site.whole_run()
    site.host.do("DELETE FROM \"Client\" WHERE id = 'gone'")

    found = distribution(site, run)

    assert (only(found).name, only(found).items, found.rest) == ("client-1", 1, 3)


def test_leads_left_alone_or_disqualified_by_something_else_since_are_the_rest(site: Site) -> None:
    site.host.add_leads("lead-1", "lead-2")
    site.host.add_leads("lead-3", "lead-4", sentimentTag="Blacklist")
    site.host.add_job("lead-2", "RUNNING")
    run = site.whole_run()
    site.host.do('UPDATE "Lead" SET "scoredAt" = "scoredAt" + interval \'1 s\' WHERE id = \'lead-4\'')

    found = distribution(site, run)

    assert (only(found).items, only(found).without, found.rest) == (2, 1, 2)


def test_a_lead_that_moved_counts_for_its_new_workspace(site: Site) -> None:
    site.host.add_client("client-2")
    site.host.add_leads("lead-1")
    run = site.whole_run()
    site.host.do('UPDATE "Lead" SET "clientId" = \'client-2\'')

    assert only(distribution(site, run)).name == "client-2"


def test_workspace_ids_are_any_text(site: Site) -> None:
    names = ["线索:é", "a'b\"c", "tab\there", "🙂" * 40, " ", "ws\u202eevil"]
    add_workspaces(site, *names)

    found = distribution(site, site.whole_run())

    assert {each.name for each in found.groups} == set(names)
    assert found.as_json()["groups"][0]["items"] == 1


def test_thousands_of_workspaces_are_all_counted(site: Site) -> None:
    for statement in THOUSANDS:
        site.host.do(statement)

    found = distribution(site, site.whole_run(limit=500))

    assert (len(found.groups), found.whole.without, found.rest) == (3_000, 3_000, 0)


def test_a_run_over_scored_leads_counts_only_scores_from_after_its_start(site: Site) -> None:
    site.host.add_leads("lead-1", "lead-2")
    for lead in ("lead-1", "lead-2"):
        site.host.do(SCORE, 4, lead)
    site.host.do('UPDATE "Lead" SET "scoredAt" = "scoredAt" - interval \'1 day\'')
    run = site.whole_run(rescore_all=True)
    score_by_host(site, "lead-1", 1)

    group = only(distribution(site, run))

    assert (dict(group.results), group.without, dict(group.beside)) == ({"1": 1}, 1, {"4": 1})


def test_another_runs_leads_are_not_counted(site: Site) -> None:
    add_workspaces(site, "one", "two", leads=2)
    site.host.do("UPDATE \"Lead\" SET \"sentimentTag\" = 'Bounce' WHERE id LIKE '%%/1'")
    first = site.whole_run(client_ids=["one"])
    second = site.whole_run(client_ids=["two"])
    # Pages of two runs may end in the same millisecond.
    site.host.do("UPDATE backfill.page SET at = (SELECT min(at) FROM backfill.page)")
    site.host.do('UPDATE "Lead" SET "scoredAt" = (SELECT min("scoredAt") FROM "Lead") WHERE "scoredAt" IS NOT NULL')

    assert [only(distribution(site, run)).name for run in (first, second)] == ["one", "two"]
    assert [only(distribution(site, run)).items for run in (first, second)] == [2, 2]


def test_a_lead_retried_from_quarantine_is_counted(strict_site: Site) -> None:
    strict_site.host.add_leads("lead-1", "lead-2")
    strict_site.host.refuse_jobs_of("lead-2")
    run = strict_site.whole_run()
    before = distribution(strict_site, run)
    strict_site.host.refuse_jobs_of()

    list(strict_site.parts.retrier.retry(run.id))

    assert (before.whole.items, before.rest) == (1, 1)
    assert (distribution(strict_site, run).whole.items, distribution(strict_site, run).rest) == (2, 0)


def test_a_run_without_leads_has_no_groups(site: Site) -> None:
    found = distribution(site, site.whole_run())

    assert (found.groups, found.whole.items, found.rest) == ([], 0, 0)


def test_a_backfill_without_scores_has_none(site: Site) -> None:
    site.host.add_leads("lead-1")
    run = site.whole_run(backfill="message-rollups")

    with site.engine.begin() as connection:
        assert site.parts.backfills["message-rollups"].distribution(connection, run) is None


def test_tables_are_read_by_index(site: Site) -> None:
    site.host.add_leads(*(f"lead-{number}" for number in range(200)))
    site.host.add_leads(*(f"tagged-{number}" for number in range(20)), sentimentTag="Opted Out")
    run = site.whole_run(limit=50)
    site.host.do("UPDATE backfill.run SET started_at = started_at - %s", timedelta(minutes=1))

    with explained(site.engine) as plans, site.engine.begin() as connection:
        begin_read_only(connection, statement_ms=60_000)
        site.parts.backfills[run.parameters.backfill].distribution(connection, site.read(run.id))

    assert [scan for plan in plans for scan in plan.whole] == []
    assert sum(plan.rows("BackgroundJob") for plan in plans) == 200
