"""The forecast of a run in a database: what is read, and by which plans."""

from datetime import datetime, timedelta

import pytest
from integration.site import Site

from backfill_tasks.engine import ledger
from backfill_tasks.engine.ledger import Span
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.outcome import Ends
from backfill_tasks.errors import UsageError
from backfill_tasks.forecast.reading import Reader, relevant
from backfill_tasks.forecast.road import forecast
from backfill_tasks.forecast.situation import Situation
from backfill_tasks.forecast.what_if import require_alternative

#: Two jobs of each lead's minute have ended, the last one now.
END = """
UPDATE "BackgroundJob" SET
  status = 'SUCCEEDED',
  "finishedAt" = now() AT TIME ZONE 'UTC' - %s * interval '1 minute'
WHERE "leadId" = %s
"""


def situation(site: Site, run: Run) -> Situation:
    backfill = site.parts.backfills[run.parameters.backfill]
    with site.engine.begin() as connection:
        outcome = backfill.outcome(connection, run)
        assert outcome is not None
        return Reader(connection, backfill).situation(run, outcome)


@pytest.fixture
def run(site: Site) -> Run:
    """Return a run that began an hour ago, of 40 leads, of which one a minute has had its job ended."""
    leads = [f"lead-{number}" for number in range(40)]
    site.host.add_leads(*leads)
    run = site.whole_run()
    site.host.do("UPDATE backfill.run SET started_at = started_at - interval '1 hour'")
    for number, lead in enumerate(leads[:30]):
        site.host.do(END, number, lead)
    return site.read(run.id)


def test_ended_jobs_are_counted_over_time(site: Site, run: Run) -> None:
    found = situation(site, run)

    assert (found.waiting, found.ended) == (10, 30)
    assert sum(found.ends.counts) == 30
    assert 1 <= max(found.ends.counts) <= 2


def test_ten_jobs_at_one_a_minute_take_some_ten_minutes(site: Site, run: Run) -> None:
    found = forecast(situation(site, run))

    assert found.state == "told"
    assert found.earliest_seconds is not None
    assert found.latest_seconds is not None
    assert found.earliest_seconds < 600 < found.latest_seconds < 3_600


def test_what_ended_before_a_bound_was_tuned_says_nothing(site: Site, run: Run) -> None:
    with site.engine.begin() as connection:
        ledger.note(connection, run.id, "tuned", {"max_pending": [12, 18]}, who="me")
    site.host.do("UPDATE backfill.event SET at = now() - interval '10 minutes' WHERE name = 'tuned'")

    assert sum(situation(site, run).ends.counts) <= 13


def test_a_change_that_doesnt_concern_the_rate_leaves_the_history(site: Site, run: Run) -> None:
    with site.engine.begin() as connection:
        ledger.note(connection, run.id, "tuned", {"limit": [500, 100]}, who="me")

    assert sum(situation(site, run).ends.counts) == 30


def test_a_pause_is_left_out() -> None:
    now = datetime(2026, 3, 1, 12)  # noqa: DTZ001
    paused = Span(now - timedelta(minutes=5), now - timedelta(minutes=2))

    found = relevant(Ends(60.0, [3, 3, 3, 0, 0, 3, 0]), now, now - timedelta(hours=1), [paused])

    assert found.counts == [3, 3, 3, 3, 0]


def test_unknown_options_are_refused(site: Site) -> None:
    backfill = site.parts.backfills["lead-scoring"]

    assert require_alternative(backfill, {"max_pending": 18, "parallel": 4}) == {"max_pending": 18, "parallel": 4}
    for changes in ({"lanes": 4}, {"max_pending": 0}, {"parallel": 1_000}):
        with pytest.raises(UsageError):
            require_alternative(backfill, changes)
