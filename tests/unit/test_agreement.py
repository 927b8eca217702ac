"""The labelled sample is whole, and the figures that docs/scorers.md states about it are right."""

import re
from collections import Counter
from pathlib import Path

from backfill_tasks.scoring.rules import Rules
from backfill_tasks.scoring.rules.scorer import overall_of
from benchmarks.agreement import Agreement, report, sample

ROOT = Path(__file__).parents[2]


def test_the_sample_has_a_hundred_of_each_part_and_fifty_fresh_ones() -> None:
    assert Counter(each.part for each in sample()) == {"tune": 100, "held out": 100, "fresh": 50}


def test_the_overall_labels_follow_the_host_s_scale() -> None:
    assert [each.number for each in sample() if overall_of(each.fit, each.intent) != each.overall] == []


def test_the_page_has_the_report_of_the_rules() -> None:
    page = (ROOT / "docs/scorers.md").read_text(encoding="utf-8")

    assert "\n".join(line.rstrip() for line in report(Rules())) in re.sub(r" +$", "", page, flags=re.MULTILINE)


def test_agreement_counts_what_is_the_same_and_what_is_one_off() -> None:
    found = Agreement([(1, 1), (1, 2), (4, 2), (3, 3)])

    assert (found.exact, found.within_one) == (0.5, 0.75)
    assert found.confusion == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
