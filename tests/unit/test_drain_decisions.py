"""What the drain does next, and how long it waits after a failure."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from backfill_tasks.drain.backoff import delay
from backfill_tasks.drain.decision import Seen, decide
from backfill_tasks.drain.ledger import Drain, LastAnswer
from backfill_tasks.drain.orders import Orders

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
DUE = Seen(next_due_seconds=-9.0, is_running=False, is_enqueuing=False, live_wait_seconds=None)
EMPTY = replace(DUE, next_due_seconds=None)
ORDERS = Orders("https://host/", 10, 2, until_done=False, max_failure_rate=0.2, max_live_wait=100)
DRAIN = Drain(
    orders=ORDERS,
    started_by="me",
    started_at=NOON,
    state="calling",
    kind="due",
    reason=None,
    since=NOON,
    until_next=-1,
    failures=0,
    in_flight=0,
    judged_jobs=0,
    judged_spoiled=0,
    per_minute=None,
    looked_seconds=0,
    holder="me",
    last=None,
    seen_at=NOON,
)
UNTIL_DONE = replace(DRAIN, orders=replace(ORDERS, until_done=True))
PAUSED = replace(DRAIN, state="paused", kind="live_wait", reason="a live job waits")


def test_a_call_starts_when_a_job_is_due() -> None:
    decision = decide(DRAIN, DUE, own=0)

    assert (decision.state, decision.calls, decision.every) == ("calling", True, 10)


def test_no_call_starts_before_the_pace_allows_it_or_beyond_the_limit() -> None:
    assert not decide(replace(DRAIN, until_next=3), DUE, own=0).calls
    assert decide(replace(DRAIN, in_flight=1), DUE, own=1).calls
    assert not decide(replace(DRAIN, in_flight=2), DUE, own=2).calls


def test_a_call_starts_when_live_jobs_that_nobody_takes_hold_back_a_run() -> None:
    stuck = replace(EMPTY, is_enqueuing=True, live_wait_seconds=90.0)

    assert decide(DRAIN, stuck, own=0).calls
    assert not decide(DRAIN, replace(stuck, live_wait_seconds=30.0), own=0).calls
    assert not decide(DRAIN, replace(stuck, is_enqueuing=False), own=0).calls


def test_a_call_that_outlasts_its_time_out_still_counts() -> None:
    assert not decide(replace(DRAIN, in_flight=0), DUE, own=2).calls


def test_it_backs_off_and_then_makes_one_call_at_a_time() -> None:
    failed = replace(DRAIN, failures=2, last=LastAnswer(NOON, "rate limited", "HTTP 429"))

    waiting = decide(replace(failed, until_next=9), DUE, own=0)
    assert (waiting.state, waiting.kind, waiting.calls) == ("backing off", "rate_limited", False)
    assert waiting.reason == "the last call failed, 2 times in a row: rate limited: HTTP 429"
    assert decide(failed, DUE, own=0).calls
    assert not decide(replace(failed, in_flight=1), DUE, own=1).calls


def test_it_waits_while_nothing_is_due_and_ends_only_when_told_and_nothing_is_left() -> None:
    assert decide(DRAIN, EMPTY, own=0).state == "waiting"
    assert decide(UNTIL_DONE, EMPTY, own=0).state == "stopped"
    assert decide(replace(UNTIL_DONE, in_flight=1), EMPTY, own=1).state == "waiting"
    for more in (
        replace(EMPTY, next_due_seconds=60.0),
        replace(EMPTY, is_running=True),
        replace(EMPTY, is_enqueuing=True),
    ):
        assert decide(UNTIL_DONE, more, own=0).state == "waiting"


@pytest.mark.parametrize(
    ("wait", "state", "then"), [(100, "calling", "paused"), (101, "paused", "paused"), (50, "calling", "calling")]
)
def test_the_live_wait_pauses_above_the_limit_and_resumes_at_half_of_it(wait: float, state: str, then: str) -> None:
    seen = replace(DUE, live_wait_seconds=float(wait))

    assert decide(DRAIN, seen, own=0).state == state
    assert decide(replace(PAUSED, until_next=9), seen, own=0).state == then


def test_a_pause_waits_a_minute_before_its_first_probe_and_judges_only_what_comes_after() -> None:
    begins = decide(DRAIN, replace(DUE, live_wait_seconds=500.0), own=0)

    assert (begins.calls, begins.wait_seconds, begins.judges_anew) == (False, 60, True)


def test_a_drain_that_is_started_while_live_jobs_wait_may_probe_at_once() -> None:
    begins = decide(replace(DRAIN, state="waiting", kind="started"), replace(DUE, live_wait_seconds=500.0), own=0)

    assert (begins.state, begins.wait_seconds) == ("paused", 0)


def test_a_paused_drain_probes_with_one_call_a_minute_while_a_job_is_due() -> None:
    unhealthy = replace(DUE, live_wait_seconds=500.0)

    assert decide(PAUSED, unhealthy, own=0).calls
    assert decide(PAUSED, unhealthy, own=0).every == 60
    assert not decide(replace(PAUSED, in_flight=1), unhealthy, own=1).calls
    assert not decide(PAUSED, replace(unhealthy, next_due_seconds=None), own=0).calls


def test_the_end_of_a_pause_ends_the_wait_for_its_next_probe() -> None:
    assert decide(replace(PAUSED, until_next=40), DUE, own=0).calls
    assert not decide(replace(PAUSED, until_next=40, failures=1), DUE, own=0).calls


@pytest.mark.parametrize(
    ("jobs", "spoiled", "state", "then"),
    [
        (9, 9, "calling", "paused"),
        (50, 10, "calling", "paused"),
        (50, 11, "paused", "paused"),
        (50, 5, "calling", "calling"),
        (0, 0, "calling", "paused"),
    ],
)
def test_the_failure_rate_pauses_above_the_limit_and_resumes_at_half_of_it(
    jobs: int, spoiled: int, state: str, then: str
) -> None:
    judged = replace(DRAIN, judged_jobs=jobs, judged_spoiled=spoiled)
    paused = replace(judged, state="paused", kind="failure_rate", until_next=9)

    assert decide(judged, DUE, own=0).state == state
    assert decide(paused, DUE, own=0).state == then


def test_a_limit_that_is_off_is_not_asked() -> None:
    orders = replace(ORDERS, max_failure_rate=None, max_live_wait=0)
    bad = replace(DRAIN, orders=orders, judged_jobs=50, judged_spoiled=50)

    assert decide(bad, replace(DUE, live_wait_seconds=1e6), own=0).state == "calling"


def test_the_calls_of_a_worker_that_is_gone_keep_their_places() -> None:
    decision = decide(replace(DRAIN, in_flight=2), DUE, own=0)

    assert (decision.state, decision.kind) == ("waiting", "calls_left_behind")


def test_the_wait_doubles_up_to_five_minutes_with_jitter_below() -> None:
    longest = [delay(failures, None, chance=lambda: 1.0) for failures in (1, 2, 3, 6, 7, 8, 10_000)]
    shortest = [delay(failures, None, chance=lambda: 0.0) for failures in (1, 2, 3, 10_000)]

    assert longest == [5, 10, 20, 160, 300, 300, 300]
    assert shortest == [2.5, 5, 10, 150]


def test_retry_after_is_the_least_wait() -> None:
    assert delay(1, 600.0) == 600
    assert delay(8, 1.0) >= 150
