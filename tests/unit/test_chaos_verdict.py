"""A fault campaign tells what `backfill verify` may report from what is wrong."""

import json
from typing import Any

import pytest

from chaos.campaign import complaints
from chaos.fleet import Answer

CLEAN: dict[str, Any] = {"clean": True, "missing": [], "contradictions": [], "quarantined": 0, "unresolved": {}}


def verified(**found: Any) -> Answer:
    return Answer(0, json.dumps({**CLEAN, **found}), "")


def test_clean_run_has_no_complaint() -> None:
    assert complaints(verified(), set()) == []


def test_missing_lead_is_no_complaint_if_the_host_deleted_its_job() -> None:
    found = verified(clean=False, missing=["lead-1", "lead-2"])

    assert complaints(found, {"lead-1"}) == ["lead lead-2 has no result"]


@pytest.mark.parametrize(
    "found",
    [{"contradictions": ["inserted differs"]}, {"quarantined": 1}, {"unresolved": {"failed": ["lead-1"]}}, {}],
    ids=["counts", "quarantine", "unresolved", "nothing"],
)
def test_any_other_finding_is_a_complaint(found: dict[str, Any]) -> None:
    assert len(complaints(verified(clean=False, **found), set())) == 1


def test_failed_verify_is_a_complaint() -> None:
    assert complaints(Answer(1, "", "PostgreSQL is away"), set()) == ["exit 1: PostgreSQL is away"]
