"""A run's history: pages in buckets, holds by kind, pauses from its events."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from integration.site import Row, Site
from unbounded import only
from unit import runs

from backfill_tasks.engine import ledger
from backfill_tasks.engine.ledger import Bucket, Event, Hold, Span
from backfill_tasks.engine.model import Run
from backfill_tasks.options import Pace

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
FULL = only(max_pending=0)


def run_of(site: Site, *, leads: int = 1, pace: Pace | None = None, limit: int = 500) -> Run:
    site.host.add_leads(*(f"lead-{number:05d}" for number in range(leads)))
    return site.start(limit=limit, pace=pace)


def over(site: Site, run: Run, time: timedelta) -> Run:
    """Return the run as if it had started at START and just ended after `time`."""
    return replace(site.read(run.id), started_at=START, finished_at=START + time)


def add_pages(site: Site, run: Run, *rows: tuple[float, float, int]) -> None:
    """Add pages to an empty lane, each as seconds after the start, duration in seconds, and leads read."""
    for number, (after, seconds, read) in enumerate(rows, start=1):
        site.host.do(
            "INSERT INTO backfill.page (run_id, lane, number, generation, cursor, counts, at, seconds)"
            " VALUES (%s, 1, %s, 1, 'lead', jsonb_build_object('read', %s::int), %s, %s)",
            run.id,
            number,
            read,
            START + timedelta(seconds=after),
            seconds,
        )
    site.host.do("UPDATE backfill.lane SET page = %s WHERE run_id = %s", len(rows), run.id)


def add_holds(site: Site, run: Run, *rows: tuple[int, str, float, float]) -> None:
    """Add holds, each as page, kind, and start and end in seconds after the start."""
    for page, kind, since, until in rows:
        site.host.do(
            "INSERT INTO backfill.hold (run_id, lane, page, generation, kind, reason, since, until, seconds)"
            " VALUES (%s, 1, %s, 1, %s, 'said', %s, %s, %s)",
            run.id,
            page,
            kind,
            START + timedelta(seconds=since),
            START + timedelta(seconds=until),
            until - since,
        )


def timeline(site: Site, run: Run) -> list[Bucket]:
    with site.engine.begin() as connection:
        return ledger.timeline(connection, run)


def holds(site: Site, run: Run) -> list[Hold]:
    with site.engine.begin() as connection:
        return ledger.holds(connection, run)


def held(site: Site) -> list[Row]:
    return site.host.rows("SELECT * FROM backfill.hold ORDER BY since, kind")


def seconds_after_start(span: Span) -> tuple[float, float]:
    return (span.since - START).total_seconds(), (span.until - START).total_seconds()


class TestAPageThatIsPutOff:
    def test_is_kept_with_kind_and_reason(self, site: Site) -> None:
        run_of(site, pace=FULL)

        assert site.deliver().outcome == "put off"

        (hold,) = held(site)
        assert (hold["lane"], hold["page"], hold["kind"]) == (1, 1, "max pending")
        assert hold["reason"] == "no room in the host's queue: 0 jobs wait, ours and due live ones"
        assert hold["until"] > hold["since"]

    def test_is_one_row_however_often_it_waits_for_the_same(self, site: Site) -> None:
        run_of(site, pace=FULL)
        site.deliver()
        (first,) = held(site)

        site.deliver()
        site.deliver()

        (last,) = held(site)
        assert last["since"] == first["since"]
        assert last["until"] > first["until"]
        assert last["seconds"] == 3 * first["seconds"]

    def test_by_an_indicator_is_kept_under_its_name(self, site: Site) -> None:
        run_of(site, pace=only(max_live_wait=60))
        site.host.add_leads("other")
        site.host.add_job(
            "other", dedupeKey="live", status="PENDING", runAt=datetime.now(UTC).replace(tzinfo=None) - timedelta(1)
        )

        assert site.deliver().outcome == "put off"

        assert [hold["kind"] for hold in held(site)] == ["live queue"]

    def test_of_a_chain_that_was_seeded_anew_has_a_row_of_its_own(self, site: Site) -> None:
        run = run_of(site, pace=FULL)
        site.deliver()
        site.waiting.clear()
        site.runs.pause(run.id, "lunch")
        site.runs.resume(run.id)

        site.deliver()

        assert [hold["generation"] for hold in held(site)] == [1, 2]

    def test_that_waits_for_a_retry_is_kept_too(self, site: Site) -> None:
        run_of(site)
        with site.engine.begin() as connection:
            ledger.hold_back(connection, site.waiting[0], 1, "page 1 waits for a retry: a lock")

        assert [(hold["kind"], hold["reason"]) for hold in held(site)] == [
            ("retry", "page 1 waits for a retry: a lock")
        ]

    def test_that_somebody_else_has_done_is_not_kept(self, site: Site) -> None:
        run_of(site, leads=10, limit=5)
        late = site.waiting[0]
        site.deliver()

        with site.engine.begin() as connection:
            ledger.hold_back(connection, late, 1, "page 1 waits for a retry: a lock")

        assert held(site) == []

    def test_goes_with_its_run(self, site: Site) -> None:
        run = run_of(site, pace=FULL)
        site.deliver()

        site.host.do("DELETE FROM backfill.run WHERE id = %s", run.id)

        assert held(site) == []


class TestAPageThatGoesThrough:
    def test_leaves_no_hold(self, site: Site) -> None:
        run_of(site, leads=10, limit=5)

        site.deliver_all()

        assert held(site) == []


class TestTimeline:
    def test_has_all_pages_and_items_and_no_gap(self, site: Site) -> None:
        run = site.read(run_of(site, leads=100, limit=2).id)
        site.deliver_all()

        buckets = timeline(site, site.read(run.id))

        assert sum(bucket.pages for bucket in buckets) == 50
        assert sum(bucket.items for bucket in buckets) == 100
        assert all(before.span.until == after.span.since for before, after in pairwise(buckets))

    def test_has_median_and_longest_of_the_pages_that_began_in_a_bucket(self, site: Site) -> None:
        run = run_of(site)
        add_pages(site, run, (1, 0.1, 5), (2, 0.9, 5), (9, 0.2, 7), (9, 0.2, 7))

        first, second = timeline(site, over(site, run, timedelta(seconds=10)))

        assert (first.pages, first.items, first.median, first.longest) == (2, 10, 0.5, 0.9)
        assert (second.pages, second.items, second.median, second.longest) == (2, 14, 0.2, 0.2)

    def test_a_bucket_without_a_page_has_neither(self, site: Site) -> None:
        run = run_of(site)
        add_pages(site, run, *[(1, 0.1, 5)] * 6)

        _, second, third = timeline(site, over(site, run, timedelta(seconds=9)))

        assert (second.pages, second.items, second.median, second.longest) == (0, 0, None, None)
        assert third.pages == 0

    def test_a_page_outside_of_the_run_s_milliseconds_is_counted(self, site: Site) -> None:
        run = run_of(site)
        add_pages(site, run, (-0.0005, 0.1, 5), (10.0005, 0.1, 5))

        (only,) = timeline(site, over(site, run, timedelta(seconds=10)))

        assert only.pages == 2

    def test_of_a_run_that_took_no_time_can_be_asked_for(self, site: Site) -> None:
        (only,) = timeline(site, over(site, run_of(site), timedelta(0)))

        assert only.pages == 0
        assert only.span.seconds > 0

    def test_of_a_long_run_has_no_more_buckets_than_a_plot_shows(self, site: Site) -> None:
        run = run_of(site)
        site.host.do(
            """
            INSERT INTO backfill.page (run_id, lane, number, generation, cursor, counts, at, seconds)
            SELECT %s, 1, each, 1, 'lead', '{"read": 500}', %s::timestamptz + each * interval '1 second', 0.1
            FROM generate_series(1, 20000) AS each
            """,
            run.id,
            START,
        )
        site.host.do("UPDATE backfill.lane SET page = 20000 WHERE run_id = %s", run.id)

        buckets = timeline(site, over(site, run, timedelta(seconds=20_000)))

        assert len(buckets) == 400
        assert sum(bucket.items for bucket in buckets) == 20_000 * 500


class TestHolds:
    def test_are_summed_by_kind(self, site: Site) -> None:
        run = run_of(site)
        add_holds(site, run, (1, "max pending", 1, 3), (2, "max pending", 2, 5), (2, "live queue", 4, 8))

        pending, live = holds(site, over(site, run, timedelta(seconds=10)))

        assert (pending.kind, pending.pages, pending.seconds, pending.reason) == ("max pending", 2, 5, "said")
        assert (live.kind, live.pages, live.seconds) == ("live queue", 1, 4)
        assert seconds_after_start(pending.span) == (1, 5)

    def test_that_overlap_or_follow_closely_are_one_stretch(self, site: Site) -> None:
        run = run_of(site)
        rows = [(1, 1.0, 30.0), (2, 2.0, 4.0), (3, 31.0, 40.0), (4, 60.0, 70.0)]
        add_holds(site, run, *((page, "live queue", since, until) for page, since, until in rows))

        (hold,) = holds(site, over(site, run, timedelta(seconds=800)))

        assert [seconds_after_start(each) for each in hold.stretches] == [(1, 40), (60, 70)]

    def test_end_with_the_run(self, site: Site) -> None:
        run = run_of(site)
        add_holds(site, run, (1, "live queue", 1, 30), (2, "live queue", 20, 30))

        (hold,) = holds(site, over(site, run, timedelta(seconds=10)))

        assert seconds_after_start(hold.span) == (1, 10)
        assert [seconds_after_start(each) for each in hold.stretches] == [(1, 10)]


def events(*names: str) -> Iterator[Event]:
    for number, name in enumerate(names):
        yield Event(START + timedelta(seconds=number), name, {}, "me@here")


def a_run(ended: datetime) -> Run:
    return runs.run_of(started_at=START, seen_at=ended)


class TestPauses:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ([], []),
            (["started", "complete"], []),
            (["started", "paused", "resumed", "complete"], [(1, 2)]),
            (["started", "paused", "rate", "tuned", "resumed", "paused", "cancelled"], [(1, 4), (5, 6)]),
            (["started", "failed", "resumed"], [(1, 2)]),
            (["started", "paused", "complete"], [(1, 2)]),
            (["started", "paused"], [(1, 20)]),
            (["started", "resumed", "complete"], []),
        ],
    )
    def test_are_from_each_stop_to_what_ends_it(self, names: list[str], expected: list[tuple[float, float]]) -> None:
        ended = START + timedelta(seconds=20)
        run = a_run(ended)

        assert [seconds_after_start(each) for each in ledger.pauses(run, events(*names))] == expected

    def test_a_run_that_has_just_failed_does_not_pause(self) -> None:
        assert ledger.pauses(a_run(START + timedelta(seconds=1)), events("started", "failed")) == []

    def test_are_in_the_events_of_a_real_run(self, site: Site) -> None:
        run = run_of(site, leads=10, limit=5)
        site.runs.pause(run.id, "lunch")
        assert site.deliver().outcome == "inactive"
        site.runs.resume(run.id)
        site.deliver_all()

        with site.engine.begin() as connection:
            (pause,) = ledger.pauses(site.read(run.id), ledger.events(connection, run.id))

        assert run.started_at < pause.since < pause.until
