"""A SqlBackfill reads by its key's index, whatever PostgreSQL knows of the table."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from integration.plans import Plan, explained
from integration.plugins import Walk, marking
from integration.site import STATEMENT_MS, Site
from sqlalchemy.exc import DBAPIError

from backfill_tasks.backfills.sql_backfill.keys import Key
from backfill_tasks.engine.contract import PageContext
from backfill_tasks.engine.database import begin_read_only
from backfill_tasks.engine.model import Bounds, Window
from backfill_tasks.engine.page.statement import PAGE_ROWS
from backfill_tasks.engine.plans import sent, whole_scans
from sandbox.servers import Servers

ROWS = 60_000
LIMIT = 100

#: Tables with their keys.
TABLES = {"single": ("id",), "composite": ("tenant", "id")}

CREATE = """
CREATE TABLE public.single (id uuid PRIMARY KEY, tenant int, done boolean NOT NULL, pad text);
CREATE TABLE public.composite (id uuid, tenant int, done boolean NOT NULL, pad text, PRIMARY KEY (tenant, id));
INSERT INTO single SELECT gen_random_uuid(), n %% 5, n %% 3 <> 0, repeat('x', 100) FROM generate_series(1, 60000) AS n;
INSERT INTO composite SELECT * FROM single;
"""


@pytest.fixture(scope="module", params=[False, True], ids=["without statistics", "with statistics"])
def large_site(request: pytest.FixtureRequest, make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """A site with tables in which one row in three needs the change."""
    site = Site(make_database(), server.redis_url)
    site.create()
    for table in TABLES:
        site.host.do(f"DROP TABLE IF EXISTS {table}")
    for statement in filter(str.strip, CREATE.split(";")):
        site.host.do(statement)
    for table in TABLES:
        site.host.do(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        if request.param:
            site.host.do(f"VACUUM ANALYZE {table}")
    yield site
    site.close()


@pytest.fixture(params=["set", "process"])
def form(request: pytest.FixtureRequest) -> dict[str, object]:
    return {"set": "done = true"} if request.param == "set" else {"process": lambda *_: None}


@pytest.mark.parametrize("table", TABLES)
class TestPages:
    def test_one_reads_a_few_rows_for_each_that_it_changes(
        self, large_site: Site, table: str, form: dict[str, object]
    ) -> None:
        plans = page_plans(walk(large_site, table, **form), table, after=0.5)

        assert [plan.whole for plan in plans] == [[]] * len(plans)
        assert max(plan.rows(table) for plan in plans) <= 10 * LIMIT

    def test_one_of_a_sparse_table_reads_a_bounded_number_of_rows(
        self, large_site: Site, table: str, form: dict[str, object]
    ) -> None:
        plans = page_plans(walk(large_site, table, where="pad = 'rare'", **form), table, after=0.1)

        assert [plan.whole for plan in plans] == [[]] * len(plans)
        assert max(plan.rows(table) for plan in plans) <= 3 * PAGE_ROWS

    def test_one_of_the_dry_run_and_of_the_verification_reads_no_more(self, large_site: Site, table: str) -> None:
        of = walk(large_site, table, where="pad = 'rare'")
        run = of.whole_run(limit=PAGE_ROWS)
        with explained(large_site.engine, TABLES) as plans:
            of.dry_run()
            of.verify(run)

        pages = [plan for plan in plans if plan.rows(table) > 1 and "Sample Scan" not in str(plan.whole)]
        assert len(pages) >= 2 * ROWS // PAGE_ROWS
        assert [plan.whole for plan in pages] == [[]] * len(pages)
        assert max(plan.rows(table) for plan in pages) <= 3 * PAGE_ROWS


class TestStatementsForDoctor:
    """What doctor plans: the statements of a page, none of which is sent."""

    def test_one_that_goes_by_the_keys_of_the_page_reads_no_table_whole(self, large_site: Site) -> None:
        apply = (
            "UPDATE composite SET done = true FROM page WHERE (composite.tenant, composite.id) = (page.tenant, page.id)"
        )

        assert read_whole(walk(large_site, "composite", apply=apply)) == []
        assert read_whole(walk(large_site, "composite", process=lambda *_: None)) == []

    def test_one_that_reads_a_table_whole_after_the_locks_is_found(self, large_site: Site) -> None:
        apply = (
            "UPDATE single SET pad = (SELECT max(pad) FROM composite WHERE done) FROM page WHERE single.id = page.id"
        )

        assert read_whole(walk(large_site, "single", apply=apply)) == ['"public"."composite"']

    def test_an_error_after_the_locks_is_found(self, large_site: Site) -> None:
        apply = "UPDATE single SET no_such_column = true FROM page WHERE single.id = page.id"

        with pytest.raises(DBAPIError, match="no_such_column"):
            read_whole(walk(large_site, "single", apply=apply))


@pytest.mark.parametrize("table", TABLES)
def test_lanes_are_cut_by_a_part_of_the_table(large_site: Site, table: str) -> None:
    of = walk(large_site, table)

    with explained(large_site.engine, TABLES) as plans:
        bounds = of.split(lanes=4)

    assert len(bounds) == 4
    assert sum(plan.rows(table) for plan in plans) < 0.8 * ROWS
    counted = [lane.counts["read"] for lane in of.dry_run(lanes=4).lanes]
    assert sum(counted) >= 0.99 * ROWS / 3
    assert all(0.7 < count / (sum(counted) / 4) < 1.3 for count in counted)


def walk(site: Site, table: str, **changes: object) -> Walk:
    key = TABLES[table]
    return Walk.of(site, marking(table=table, key=key if len(key) > 1 else key[0], **changes))


def read_whole(of: Walk) -> list[str]:
    """Return the tables that a page would read whole."""
    with of.site.engine.begin() as connection:
        begin_read_only(connection, statement_ms=STATEMENT_MS)
        window = Window(Bounds(None, str(of.backfill.last_key(connection))), 500, PAGE_ROWS)
        asked = of.backfill.statements(connection, window, PageContext({}, datetime.now(UTC)))
        statements = [sent(connection, ask) for ask in asked]
        return [scan.table for each in statements if each is not None for scan in whole_scans(connection, each)]


def page_plans(of: Walk, table: str, *, after: float) -> list[Plan]:
    """Return the plans of a page's statements as a worker runs them, at this place in the table."""
    key = TABLES[table]
    texts = ", ".join(f"{each}::text" for each in key)
    statement = f"SELECT ARRAY[{texts}] FROM {table} ORDER BY {', '.join(key)} OFFSET %s LIMIT 1"
    (parts,) = of.site.host.values(statement, int(ROWS * after))
    run = of.start(limit=LIMIT, cursor=Key(key, table).encode(parts))
    with explained(of.site.engine, TABLES) as plans:
        of.chain.step(of.site.waiting.pop(0))
    of.site.waiting.clear()
    of.runs.cancel(run.id)
    return plans
