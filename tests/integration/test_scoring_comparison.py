"""Comparing a scorer with existing scores: per workspace, within a budget, and without a trace."""

from dataclasses import astuple

import pytest
from integration.scoring import BOUND_COST, PAID, Desk, Obedient
from integration.site import NOON, Site

from backfill_tasks.scoring.comparison import Comparison
from backfill_tasks.scoring.contract import Usage
from backfill_tasks.scoring.parameters import Parameters


def scored(desk: Desk, lead: str, *, existing: int, says: str, client: str = "client-1") -> None:
    """Add a lead with a score, whose message makes the scorer return another."""
    desk.site.host.add_leads(lead, inbound=0, clientId=client, overallScore=existing)
    desk.site.host.add_message(f"{lead}/1", lead, body=says, direction="inbound", sentAt=NOON)


def compare(desk: Desk, *, sample: int = 25, max_spend: int | None = None) -> Comparison:
    return desk.work.compare(Parameters("obedient", max_spend=max_spend), sample)


def test_agreement_is_counted_for_each_workspace_and_for_all(desk: Desk) -> None:
    desk.site.host.add_client("client-2")
    scored(desk, "a", existing=3, says="score 3")
    scored(desk, "b", existing=3, says="score 2")
    scored(desk, "c", existing=4, says="score 1")
    scored(desk, "d", existing=4, says="no score", client="client-2")

    found = compare(desk)

    assert [astuple(each) for each in found.agreements] == [
        ("client-1", 3, 1, 2, 0),
        ("client-2", 1, 0, 0, 1),
        (None, 4, 1, 2, 1),
    ]


def test_nothing_is_written(desk: Desk) -> None:
    scored(desk, "a", existing=3, says="score 1")
    desk.add("unscored")
    before = desk.site.host.versions()

    compare(desk)

    assert desk.site.host.versions() == before
    assert desk.site.host.rows("SELECT FROM backfill.scoring") == []
    assert len(desk.scorer.seen) == 1


def test_a_sample_has_so_many_leads_of_each_workspace_and_score(desk: Desk) -> None:
    for number in range(12):
        scored(desk, f"lead-{number:02}", existing=1 + number % 4, says="score 2")

    assert len(compare(desk, sample=2).pairs) == 8


def test_the_budget_is_never_exceeded(site: Site) -> None:
    desk = Desk(site, Obedient(model=PAID, usage=Usage(1_000, 0)))
    for number in range(10):
        scored(desk, f"lead-{number}", existing=2, says="score 2")

    found = compare(desk, max_spend=4 * BOUND_COST + 49)

    assert (len(desk.scorer.seen), found.spent) == (4, 4 * BOUND_COST)
    assert found.stopped == "the budget doesn't cover another request"


@pytest.mark.parametrize("says", ["refuse", "retry"])
def test_a_scorer_that_fails_ends_the_comparison_and_says_why(desk: Desk, says: str) -> None:
    for number in range(20):
        scored(desk, f"lead-{number}", existing=2, says=says)

    assert compare(desk).stopped in {"401 Unauthorized", "503 Service Unavailable"}
