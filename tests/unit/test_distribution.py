"""The distribution of a run's results, as an operator reads it: correct numbers in 80 columns."""

import unicodedata

import pytest
from unit.runs import run_of

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.cli.render.distribution import distribution_lines
from backfill_tasks.cli.render.distribution_html import chart
from backfill_tasks.cli.render.text import WIDTH
from backfill_tasks.engine.distribution import Distribution, Group
from backfill_tasks.engine.model import RunId

NAME = "9f1c2e5a-7b3d-4c6e-8f90-a1b2c3d4e5f6"
SOURCES = {"here": "scored here", "host": "scored by the host"}
BACKFILL = LeadScoring()
RUN = run_of(id=RunId("261124-091500-a1b2"))


def group(*results: int, name: str = NAME, without: int = 0, beside: tuple[int, ...] = ()) -> Group:
    """Return a group with these numbers of results, all of them scored here."""
    labels = ("1", "2", "3", "4", "other")
    return Group(
        name,
        dict(zip(labels, results, strict=False)),
        without,
        {"here": sum(results)},
        dict(zip(labels, beside, strict=False)),
    )


def distribution(*groups: Group, other: bool = False, rest: int = 0) -> Distribution:
    results = ("1", "2", "3", "4", *(["other"] if other else []))
    return Distribution("workspace", results, SOURCES, groups, rest)


def lines(found: Distribution, most: int = 10) -> list[str]:
    return "\n".join(distribution_lines(BACKFILL, RUN, found, most=most)).splitlines()


def columns(line: str) -> int:
    wide = {"W", "F"}
    return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in wide) for each in line)


def test_shows_each_results_number_share_and_bar() -> None:
    shown = lines(distribution(group(200, 100, 0, 100)))

    assert shown[0] == "Scores of run 261124-091500-a1b2: 400 leads in 1 workspace"
    assert shown[3:7] == [
        f"  1                 200   50 %  {'█' * 40}",
        f"  2                 100   25 %  {'█' * 20}",
        "  3                   0    0 %",
        f"  4                 100   25 %  {'█' * 20}",
    ]
    assert "  400 scored here." in shown


def test_compares_with_the_shares_of_the_other_leads() -> None:
    shown = lines(distribution(group(1, 1, 1, 1, beside=(3, 1, 0, 0))))

    assert [line[-5:].strip() for line in shown[3:7]] == ["75 %", "25 %", "0 %", "0 %"]
    assert "  others: the 4 leads with a score in the same workspaces that aren't the run's." in shown


def test_a_small_number_has_a_visible_bar() -> None:
    shown = lines(distribution(group(1_000_000, 1, 0, 0)))

    assert shown[4].endswith("▏")
    assert not shown[5].endswith("▏")


def test_a_groups_bar_shows_its_shares_in_shades() -> None:
    shown = lines(distribution(group(2, 1, 1, 0)))

    assert shown[-2] == f"  workspace{' ' * 27}  ░ 1  ▒ 2  ▓ 3  █ 4"
    assert shown[-1] == f"  {NAME}    2    1    1    0  {'░' * 10}{'▒' * 5}{'▓' * 5}"


def test_leads_without_a_score_and_strange_scores_have_columns_only_if_there_are_any() -> None:
    assert "none" not in "\n".join(lines(distribution(group(1, 1, 1, 1))))

    shown = lines(distribution(group(1, 1, 1, 1, 4, without=8), other=True))

    assert shown[-2].split()[-3:] == ["?", "other", "none"]
    assert shown[-1].split()[1:7] == ["1", "1", "1", "1", "4", "8"]
    assert shown[-1].endswith("????")


def test_lists_the_largest_groups_and_counts_the_others() -> None:
    shown = lines(distribution(*(group(5, name=f"ws-{number}") for number in range(47))))

    assert sum(line.startswith("  ws-") for line in shown) == 10
    assert shown[-1] == "  … and 37 more"


def test_says_how_many_leads_are_not_counted() -> None:
    said = " ".join(line.strip() for line in lines(distribution(group(1), rest=1_234)))

    assert "1,234 more leads that the run has read aren't counted: left alone, quarantined, gone, or changed" in said


def test_a_run_without_scores_says_so() -> None:
    assert "  No leads have a score yet." in lines(distribution(group(0, 0, 0, 0, without=3)))
    assert lines(distribution()) == ["Scores of run 261124-091500-a1b2: 0 leads in 0 workspaces"]


@pytest.mark.parametrize(
    "name",
    ["a", NAME, "x" * 5_000, "线索" * 40, "e\u0301" * 50, "🙂" * 40, "tab\there\nline", "\u202eevil\x1b[31m", ""],
    ids=ascii,
)
@pytest.mark.parametrize("number", [1, 99_999, 160_000_000])
def test_fits_in_80_columns(name: str, number: int) -> None:
    strange = group(number, number, number, number, number, name=name, without=number, beside=(number, 1))

    shown = lines(distribution(strange, group(1, name="small"), other=True, rest=number))

    assert max(map(columns, shown)) <= WIDTH
    assert not any("\x1b" in line or "\u202e" in line or "\t" in line for line in shown)


def test_groups_with_wide_names_are_aligned() -> None:
    shown = lines(distribution(group(5, name="线索线索"), group(5, name="plain")))

    assert len({columns(line.partition("5")[0]) for line in shown[-2:]}) == 1


def test_the_pages_bars_fill_their_row() -> None:
    found = chart(distribution(group(1, 2, 3, 4, without=10)))

    pieces = found.groups[0].pieces
    assert (pieces[0].start, pieces[-1].start + pieces[-1].length) == (0, 100)
    assert [each.shade for each in pieces] == ["1", "2", "3", "4", "none"]
    assert [each.items for each in found.bars] == [1, 2, 3, 4, 10]


def test_the_page_lists_200_groups() -> None:
    found = chart(distribution(*(group(1, name=str(number)) for number in range(237))))

    assert (len(found.groups), found.more) == (200, 37)


def test_json_has_every_result_of_every_group() -> None:
    found = distribution(group(1, 0, 2, 0, without=3, beside=(0, 4, 0, 0)), rest=5).as_json()

    whole = {
        "items": 6,
        "results": {"1": 1, "2": 0, "3": 2, "4": 0},
        "without": 3,
        "sources": {"here": 3, "host": 0},
        "beside": {"1": 0, "2": 4, "3": 0, "4": 0},
    }
    assert found == {"all": whole, "groups": [{"workspace": NAME, **whole}], "rest": 5}
