"""Splitting into lanes: no key is skipped and lanes are even, for any ids and any collation."""

import uuid

import pytest
from integration.site import Site

from sandbox.host.sample import fill

PREFIXES = ("", "lead_", "lead-", "LEAD_", "Lead", "_", "Ω", "é", "zzzzzzzzzz-")
IDS = {
    "uuids": [str(uuid.UUID(int=number * 2**100)) for number in range(1, 61)],
    "upper case uuids": [str(uuid.UUID(int=number * 2**100)).upper() for number in range(1, 61)],
    "numbers": [str(number) for number in range(1, 61)],
    "one long prefix": [f"{'workspace-of-a-very-large-company-' * 6}{number}" for number in range(1, 61)],
    "two cases": [f"{letter}{number}" for letter in "aAbBzZ" for number in range(1, 11)],
    "punctuation": [f"{mark}{number}" for mark in "-_ .:/" for number in range(1, 11)],
    "prefixes": [f"{prefix}{number}" for prefix in PREFIXES for number in range(1, 8)],
    "other letters": [f"{letter}{number}" for letter in "éèÉßæøжЖ名😀" for number in range(1, 7)],
    "prefixes of each other": ["a" * length for length in range(1, 61)],
    "signs that mean something elsewhere": [f"{sign}{n}" for sign in "%\\'\"{}$:" for n in range(1, 8)],
}


def lane_sizes(site: Site, uppers: list[str], *, after: str | None = None) -> list[int]:
    """Return how many unscored leads are in each lane, in the database's own order."""
    lowers = [after or "", *uppers[:-1]]
    statement = 'SELECT count(*) FROM "Lead" WHERE id > %s AND id <= %s AND "overallScore" IS NULL'
    return [site.host.values(statement, *bounds)[0] for bounds in zip(lowers, uppers, strict=True)]


@pytest.fixture(params=["site", "english_site"], ids=["by code point", "en_US.UTF-8"])
def any_site(request: pytest.FixtureRequest) -> Site:
    """Return a site, once for each collation."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Site)
    return found


class TestAnyIds:
    @pytest.mark.parametrize("kind", IDS)
    def test_lanes_are_even_and_cover_every_lead(self, any_site: Site, kind: str) -> None:
        any_site.host.add_leads(*IDS[kind], inbound=0)

        sizes = lane_sizes(any_site, any_site.split(lanes=7))

        assert (len(sizes), sum(sizes)) == (7, len(IDS[kind]))
        assert max(sizes) - min(sizes) <= 1

    @pytest.mark.parametrize("kind", IDS)
    def test_run_does_each_lead_once(self, any_site: Site, kind: str) -> None:
        any_site.host.add_leads(*IDS[kind])

        run = any_site.whole_run(limit=9, lanes=3)

        assert run.counts["inserted"] == len(IDS[kind])
        assert sorted(any_site.host.enqueued()) == sorted(IDS[kind])

    def test_empty_id_is_included(self, any_site: Site) -> None:
        any_site.host.add_leads("", "a")

        any_site.whole_run(limit=1)

        assert sorted(any_site.host.enqueued()) == ["", "a"]

    def test_mixed_ids_are_split_evenly(self, any_site: Site) -> None:
        any_site.host.do('DELETE FROM "Client"')
        fill(any_site.host.connection, 3_000, ids="mixed")

        sizes = lane_sizes(any_site, any_site.split(lanes=8))

        (unscored,) = any_site.host.values('SELECT count(*) FROM "Lead" WHERE "overallScore" IS NULL')
        assert (len(sizes), sum(sizes)) == (8, unscored)
        assert max(sizes) - min(sizes) <= 1


class TestBounds:
    def test_last_bound_is_the_tables_last_lead_even_if_ineligible(self, site: Site) -> None:
        site.host.add_leads("a", "b")
        site.host.add_leads("z", overallScore=3)

        assert site.split(lanes=2) == ["a", "z"]

    def test_lanes_start_after_the_cursor(self, any_site: Site) -> None:
        any_site.host.add_leads(*(f"lead_{letter}{number}" for letter in "aAbB" for number in range(10)), inbound=0)
        (middle,) = any_site.host.values('SELECT id FROM "Lead" ORDER BY id OFFSET 19 LIMIT 1')

        uppers = any_site.split(lanes=4, after=middle)

        assert lane_sizes(any_site, uppers, after=middle) == [5, 5, 5, 5]

    def test_cursor_need_not_be_an_existing_lead(self, site: Site) -> None:
        site.host.add_leads("a", "c", "d")

        assert site.split(lanes=2, after="b") == ["c", "d"]

    def test_no_lanes_after_the_last_lead(self, site: Site) -> None:
        site.host.add_leads("a")

        assert site.split(lanes=2, after="a") == []

    def test_empty_table_has_no_lanes(self, site: Site) -> None:
        assert site.split(lanes=2) == []

    def test_table_without_eligible_leads_is_one_lane(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c", overallScore=1)

        assert site.split(lanes=3) == ["c"]


class TestSizes:
    def test_lanes_never_outnumber_leads(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c")

        assert site.split(lanes=64) == ["a", "b", "c"]

    @pytest.mark.parametrize(("smallest", "lanes"), [(1, 4), (3, 3), (5, 2), (9, 1), (10, 1), (11, 1)])
    def test_lanes_respect_the_smallest_size(self, site: Site, smallest: int, lanes: int) -> None:
        site.host.add_leads(*(f"lead-{number}" for number in range(10)))

        assert len(site.split(lanes=4, smallest=smallest)) == lanes

    def test_lanes_hold_equal_numbers_of_eligible_leads(self, site: Site) -> None:
        site.host.add_leads(*(f"a-{number}" for number in range(8)), overallScore=2)
        site.host.add_leads(*(f"b-{number}" for number in range(4)))

        assert lane_sizes(site, site.split(lanes=2)) == [2, 2]

    def test_scored_leads_count_with_rescore_all(self, site: Site) -> None:
        site.host.add_leads(*(f"a-{number}" for number in range(3)), overallScore=2)
        site.host.add_leads(*(f"b-{number}" for number in range(3)))

        assert site.split(lanes=2, rescore_all=True) == ["a-2", "b-2"]

    def test_only_the_named_workspaces_count(self, site: Site) -> None:
        site.host.add_client("client-2")
        site.host.add_leads(*(f"a-{number}" for number in range(8)))
        site.host.add_leads(*(f"b-{number}" for number in range(4)), clientId="client-2")

        assert site.split(lanes=2, client_ids=["client-2"]) == ["b-1", "b-3"]
