"""What the host's cron route answers, whoever really answers."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from backfill_tasks.drain.answers import Answer, Counts, Response, parse

GOOD = {"success": True, "mode": "inline", "processed": 10, "succeeded": 7, "failed": 1, "retried": 2}
MORE = {"skipped": 3, "remaining": 40, "releasedStale": 1}
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def answer(status: int = 200, content: Any = None, **headers: str) -> Answer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse(Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body), now=NOON)


def test_the_counts_of_either_revision_are_read() -> None:
    assert answer(200, GOOD).counts == Counts(10, 7, 1, 2)
    assert answer(200, {**GOOD, **MORE, "mode": "inline-emergency", "tookMs": 9}).counts == Counts(
        10, 7, 1, 2, 3, 1, 40
    )


def test_an_attempt_that_is_retried_counts_as_spoiled_and_never_exceeds_the_jobs() -> None:
    assert Counts(10, 7, 1, 2).spoiled == 3
    assert Counts(1, 0, 900, 900).spoiled == 1


@pytest.mark.parametrize("mode", ["dispatch-only", "dispatch-duplicate-suppressed"])
@pytest.mark.parametrize("status", [200, 202])
def test_a_host_that_only_dispatches_is_recognized(mode: str, status: int) -> None:
    found = answer(status, {"success": True, "mode": mode})

    assert (found.result, found.shown) == ("dispatched", f"mode {mode}")


@pytest.mark.parametrize("name", ["processed", "succeeded", "failed", "retried", *MORE])
@pytest.mark.parametrize("value", [-1, 1.5, True, "10", [], {}, 10**30])
def test_a_count_that_is_none_is_not_believed(name: str, value: object) -> None:
    found = answer(200, {**GOOD, **MORE, name: value})

    assert found.result == "malformed"
    assert found.counts is None
    assert name in found.shown


@pytest.mark.parametrize("name", ["processed", "succeeded", "failed", "retried"])
def test_a_missing_count_is_not_guessed(name: str) -> None:
    assert answer(200, {key: value for key, value in GOOD.items() if key != name}).result == "malformed"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"1", b"<html>", b"\xff\xfe", b"{", b"[" * 60_000, b'{"success": true, "mode": 7}', b"NaN",
        b'{"processed": ' + b"9" * 5_000 + b"}", b'{"success": true, "mode": "offline"}',
    ],
)  # fmt: skip
def test_a_body_of_another_kind_is_malformed(body: bytes) -> None:
    assert answer(200, body).result in ("malformed", "server error")


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (301, "redirected"), (308, "redirected"), (400, "refused"), (401, "unauthorized"), (403, "unauthorized"),
        (404, "not found"), (405, "not found"), (408, "timed out"), (418, "refused"), (429, "rate limited"),
        (500, "server error"), (502, "server error"), (503, "unavailable"), (504, "timed out"), (599, "server error"),
        (999, "server error"),
    ],
)  # fmt: skip
def test_a_status_decides_whatever_the_body_says(status: int, result: str) -> None:
    assert answer(status, GOOD).result == result
    assert answer(status, GOOD).counts is None


def test_a_message_is_cut_and_escaped_and_names_nobody() -> None:
    said = answer(500, {"message": "\x1b[31mno row for ada@example.org\n" + "x" * 10_000}).shown

    assert said.startswith(r"HTTP 500: \x1b[31mno row for …@…\n")
    assert len(said) < 250
    assert said.isprintable()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120), (" 0 ", 0), ("Sat, 28 Nov 2026 12:00:30 GMT", 30), ("Sat, 28 Nov 2026 11:00:00 GMT", 0),
        ("99999999999999999999", 86_400), ("Sat, 28 Nov 2099 11:00:00 GMT", 86_400),
        ("-5", None), ("soon", None), ("", None), ("1e9", None), ("Sat, 99 Nov 2026 99:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert answer(429, {}, retry_after=value).retry_after == seconds


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://user:hunter2@other.example/login?token=hunter2#hunter2", "https://other.example/login"),
        ("/login?token=hunter2", "/login"),
        ("http://[hunter2", "another place"),
        ("", "nowhere"),
    ],
)
def test_a_redirect_is_shown_without_what_may_be_a_secret(location: str, shown: str) -> None:
    assert answer(302, None, location=location).shown == f"HTTP 302 to {shown}"
