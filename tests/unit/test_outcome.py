"""The estimate of when the last lead has its result, from waiting jobs, future jobs and the host's speed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from backfill_tasks.engine.outcome import Outcome

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FOUND = Outcome({"PENDING": 30}, unended=30, done=0, oldest_due_at=None, last_due_at=NOW, per_minute=20, seen_at=NOW)


def test_waiting_and_future_jobs_take_their_time() -> None:
    assert FOUND.seconds_left(10) == 120


def test_estimate_is_unknown_before_the_host_finishes_a_job() -> None:
    assert replace(FOUND, per_minute=None).seconds_left(10) is None
    assert replace(FOUND, per_minute=0.0).seconds_left(10) is None


def test_no_jobs_left_takes_no_time_at_any_speed() -> None:
    assert replace(FOUND, unended=0, per_minute=None).seconds_left(0) == 0


def test_last_job_is_not_done_before_it_is_due() -> None:
    late = replace(FOUND, last_due_at=NOW + timedelta(hours=5))

    assert late.seconds_left(10) == 18_000
