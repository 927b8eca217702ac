"""When the last lead will have its result: from the waiting jobs, the jobs to come, and the host's speed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from backfill_tasks.engine.outcome import Outcome

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FOUND = Outcome({"PENDING": 30}, unended=30, done=0, oldest_due_at=None, last_due_at=NOW, per_minute=20, seen_at=NOW)


def test_what_waits_and_what_is_still_to_come_take_their_time() -> None:
    assert FOUND.seconds_left(10) == 120


def test_it_is_not_known_before_the_host_has_ended_anything() -> None:
    assert replace(FOUND, per_minute=None).seconds_left(10) is None
    assert replace(FOUND, per_minute=0.0).seconds_left(10) is None


def test_nothing_left_takes_no_time_however_slow_the_host_is() -> None:
    assert replace(FOUND, unended=0, per_minute=None).seconds_left(0) == 0


def test_the_last_one_is_not_done_before_it_is_due() -> None:
    late = replace(FOUND, last_due_at=NOW + timedelta(hours=5))

    assert late.seconds_left(10) == 18_000
