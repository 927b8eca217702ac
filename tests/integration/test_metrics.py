"""What a scrape reads from the ledger: only what is new, by key, however large the ledger is."""

import json
from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest
from integration.site import Site
from sqlalchemy import text

from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.ledger import WatchedRun
from backfill_tasks.engine.ledger.rows import sql_file
from backfill_tasks.monitoring.page_times import BUCKETS, PageTimes
from backfill_tasks.observer import Observer
from sandbox.servers import Servers

PAGES = 40_000

LEDGER = f"""
INSERT INTO backfill.run (id, backfill, state, parameters, started_by, started_at)
SELECT 'run-' || n, 'lead-scoring', 'complete', '{{}}', 'test', now() - interval '1 hour' - n * interval '1 minute'
FROM generate_series(1, 500) AS n;
UPDATE backfill.run SET state = 'running' WHERE id IN ('run-3', 'run-300');
INSERT INTO backfill.lane (run_id, number, upper_bound, page, counts, page_seconds)
SELECT id, lane, 'z', CASE WHEN id = 'run-3' THEN {PAGES} / 2 ELSE 0 END, '{{"read": 7}}', 0.1
FROM backfill.run CROSS JOIN generate_series(1, 2) AS lane;
INSERT INTO backfill.page (run_id, lane, number, generation, cursor, counts, seconds)
SELECT 'run-3', lane, number, 1, 'c', '{{}}', 0.1
FROM generate_series(1, 2) AS lane CROSS JOIN generate_series(1, {PAGES} / 2) AS number;
"""

DO_PAGES = """
INSERT INTO backfill.page (run_id, lane, number, generation, cursor, counts, seconds)
SELECT lane.run_id, lane.number, lane.page + n, 1, 'c', '{}', %s
FROM backfill.lane CROSS JOIN generate_series(1, %s) AS n
WHERE lane.run_id = %s AND lane.number = 1
"""
NOTE_PAGES = "UPDATE backfill.lane SET page = page + %s WHERE run_id = %s AND number = 1"


@pytest.fixture(scope="module")
def shared_large_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """A ledger of 500 runs, one of which has 40,000 pages, with the statistics of an empty one."""
    large = Site(make_database(), server.redis_url)
    large.create()
    with psycopg.connect(large.url, autocommit=True) as connection:
        for table in ("run", "lane", "page"):
            connection.execute(f"ALTER TABLE backfill.{table} SET (autovacuum_enabled = false)".encode())
        connection.execute(LEDGER.encode())
    yield large
    large.close()


@pytest.fixture
def large_site(shared_large_site: Site) -> Site:
    """The same; tests add pages to it."""
    return shared_large_site


def look(site: Site, times: PageTimes) -> Sequence[WatchedRun]:
    """Read as a scrape does."""
    observer = Observer(site.settings, site.parts, 500)
    watched = observer.watched()
    times.count(observer.pages_after(times.behind(watched)))
    return watched.runs


def do_pages(site: Site, run: str, number: int, *, seconds: float) -> None:
    site.host.do(DO_PAGES, seconds, number, run)
    site.host.do(NOTE_PAGES, number, run)


def rows_read(site: Site, name: str, values: dict[str, object]) -> dict[str, float]:
    """Return how many rows of each table a statement reads, including discarded ones."""
    statement = f"EXPLAIN (ANALYZE, FORMAT JSON) {sql_file(name).text}"
    with site.engine.begin() as connection:
        begin_read_only(connection, statement_ms=5_000)
        plan = connection.execute(text(statement), values).scalar_one()
    content = json.loads(plan) if isinstance(plan, str) else plan
    found: dict[str, float] = {}
    nodes = [content[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Relation Name" in node:
            rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            found[node["Relation Name"]] = found.get(node["Relation Name"], 0) + rows
    return found


def test_the_unfinished_runs_and_the_newest_are_watched_and_no_others(large_site: Site) -> None:
    runs = look(large_site, PageTimes())

    assert [run.id for run in runs] == ["run-300", *(f"run-{number}" for number in range(10, 0, -1))]
    assert all(run.counts["read"] == 14 for run in runs)


def test_no_lane_but_those_of_the_watched_runs_is_read(large_site: Site) -> None:
    values = {"unfinished": ["running", "paused", "failed"], "most_unfinished": 20, "newest": 10}

    read = rows_read(large_site, "metrics", values)

    assert read["lane"] == 2 * 11
    assert "page" not in read


def test_no_page_but_those_that_are_new_is_read(large_site: Site) -> None:
    do_pages(large_site, "run-3", 5, seconds=0.1)
    values = {"runs": ["run-3", "run-3"], "lanes": [1, 2], "pages": [PAGES // 2, PAGES // 2], "most": 1_000}

    read = rows_read(large_site, "new_pages", values)

    assert read["page"] == 5


def test_pages_that_were_done_before_are_not_timed(large_site: Site) -> None:
    times = PageTimes()

    look(large_site, times)
    look(large_site, times)

    assert times.histograms() == {}


def test_each_new_page_is_timed_once_in_its_class(large_site: Site) -> None:
    times = PageTimes()
    look(large_site, times)
    do_pages(large_site, "run-3", 3, seconds=0.2)
    do_pages(large_site, "run-3", 1, seconds=99.0)
    look(large_site, times)
    look(large_site, times)

    counts, seconds = times.histograms()["lead-scoring"]

    assert dict(zip((*BUCKETS, None), counts, strict=True)) == {
        **{bound: 3 if bound >= 0.2 else 0 for bound in BUCKETS},
        None: 4,
    }
    assert seconds == pytest.approx(99.6)


def test_more_new_pages_than_are_read_at_a_time_are_caught_up_with(large_site: Site) -> None:
    times = PageTimes()
    look(large_site, times)
    do_pages(large_site, "run-3", 2_500, seconds=0.1)
    seen = []
    for _ in range(4):
        look(large_site, times)
        seen.append(times.histograms()["lead-scoring"][0][-1])

    assert seen == [1_000, 2_000, 2_500, 2_500]


def test_a_paused_run_and_lanes_that_have_ended_do_not_stand(site: Site) -> None:
    site.host.add_leads(*(f"lead-{number}" for number in range(6)))
    run = site.start(limit=1, lanes=2)
    site.deliver()
    idle = [lane.idle is not None for each in look(site, PageTimes()) for lane in each.lanes]
    site.runs.pause(run.id, "by hand")

    assert idle == [True, True]
    assert [lane.idle for each in look(site, PageTimes()) for lane in each.lanes] == [None, None]


def test_of_a_single_batch_only_the_lane_that_is_on_its_way_can_stand(site: Site) -> None:
    site.host.add_leads(*(f"lead-{number}" for number in range(6)))
    site.start(limit=1, lanes=2, single_batch=True)

    (run,) = look(site, PageTimes())

    assert [lane.idle is None for lane in run.lanes] == [False, True]
