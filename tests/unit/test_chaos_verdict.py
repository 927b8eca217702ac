"""A campaign separates what `backfill verify` rightly reports from what is wrong."""

import json
from typing import Any

import pytest

from chaos.campaign import complaints
from chaos.fleet import Answer

CLEAN: dict[str, Any] = {"clean": True, "missing": [], "contradictions": [], "quarantined": 0, "unresolved": {}}


def verified(**found: Any) -> Answer:
    return Answer(0, json.dumps({**CLEAN, **found}), "")


def test_a_clean_run_has_none() -> None:
    assert complaints(verified(), set()) == []


def test_a_lead_whose_job_the_host_has_deleted_is_none() -> None:
    found = verified(clean=False, missing=["lead-1", "lead-2"])

    assert complaints(found, {"lead-1"}) == ["lead lead-2 has no result"]


@pytest.mark.parametrize(
    "found",
    [{"contradictions": ["inserted differs"]}, {"quarantined": 1}, {"unresolved": {"failed": ["lead-1"]}}, {}],
    ids=["counts", "quarantine", "unresolved", "nothing"],
)
def test_all_else_is_one(found: dict[str, Any]) -> None:
    assert len(complaints(verified(clean=False, **found), set())) == 1


def test_no_answer_is_one() -> None:
    assert complaints(Answer(1, "", "PostgreSQL is away"), set()) == ["exit 1: PostgreSQL is away"]
