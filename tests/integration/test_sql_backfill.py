"""A SqlBackfill run by the engine, for any type of key."""

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from integration.plugins import Walk, make_table, marking
from integration.site import Site
from sqlalchemy import Connection, Row, text

from backfill_tasks.backfills.sql_backfill import SqlBackfill
from backfill_tasks.engine.contract import ItemsFailed
from backfill_tasks.errors import HostError, UsageError
from backfill_tasks.kinds import Text, Texts, Whole
from backfill_tasks.options import Option

#: Unusual keys, by type.
KEYS: Mapping[str, Sequence[str]] = {
    "text": [
        "",
        " ",
        "a",
        "A",
        "B",
        "b",
        "ä",
        "é",
        "z",
        "Z",
        "-1",
        "1",
        "10",
        "9",
        '"',
        "\\",
        "'",
        "{}",
        "a b",
        "\n",
        "%",
        ":x",
        "𝄞",
    ],
    'text COLLATE "C"': ["", "a", "B", "ä", "Z", "_"],
    "varchar(10)": ["", "a", "B", "ä"],
    "char(4)": ["a", "ab", "B", "b"],
    "uuid": [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "0190A5B2-0000-7000-8000-00000000000A",
        "7d444840-9dc0-11d1-b245-5ffdce74fad2",
    ],
    "smallint": ["-32768", "-1", "0", "1", "32767"],
    "int": ["-2147483648", "-10", "-9", "0", "9", "10", "2147483647"],
    "bigint": ["-9223372036854775808", "-1", "0", "9", "10", "9223372036854775807"],
    "numeric": ["-1.5", "0", "0.10", "10", "9", "1e30", "NaN"],
    "float8": ["-Infinity", "-0.1", "0", "0.1", "1e-300", "1e300", "Infinity", "NaN"],
    "timestamptz": [
        "-infinity",
        "0044-03-15 12:00:00+00 BC",
        "2026-01-01 00:00:00.123456+00",
        "2026-01-01 00:00:00.123457+00",
        "2026-01-01 02:00:00+03",
        "infinity",
    ],
    "timestamp": ["-infinity", "2026-01-01", "infinity"],
    "date": ["-infinity", "2026-01-01", "2026-12-31", "infinity"],
    "bytea": ["\\x", "\\x00", "\\xff", "\\x00ff"],
}

#: Composite keys.
COMPOSITE: Mapping[str, Sequence[Sequence[str]]] = {
    "a text, id bigint": [["", "1"], ["acme", "-1"], ["acme", "9"], ["acme", "10"], ['"],["', "1"], ["ä", "7"]],
    "a uuid, b text, id timestamptz": [
        [f"00000000-0000-0000-0000-00000000000{one}", two, three]
        for one in "12" for two in ("", "x") for three in ("-infinity", "2026-01-01 00:00:00.000001+00", "infinity")
    ],
}  # fmt: skip

ALL = [(f"id {kind}", [[value] for value in values]) for kind, values in KEYS.items()] + list(COMPOSITE.items())


def names(columns: str) -> tuple[str, ...]:
    return tuple(each.split()[0] for each in columns.split(", "))


def things(site: Site, number: int) -> None:
    """Create the table `thing` with `number` rows to change."""
    make_table(site, "id int PRIMARY KEY, done boolean NOT NULL DEFAULT false, name text", [])
    site.host.do("INSERT INTO thing SELECT n, false, 'thing ' || n FROM generate_series(1, %s) AS n", number)


def undone(site: Site) -> list[Any]:
    return site.host.values("SELECT id FROM thing WHERE NOT done ORDER BY id")


class TestKeys:
    @pytest.mark.parametrize(("columns", "rows"), ALL, ids=[each[0] for each in ALL])
    @pytest.mark.parametrize("lanes", [1, 3])
    def test_each_row_is_done_once(self, english_site: Site, columns: str, rows: list[list[str]], lanes: int) -> None:
        key = names(columns)
        make_table(
            english_site,
            f"{columns}, done bool NOT NULL DEFAULT false, times int DEFAULT 0, PRIMARY KEY ({', '.join(key)})",
            rows,
        )
        walk = Walk.of(english_site, marking(key=key if len(key) > 1 else "id", set="done = true, times = times + 1"))

        counted = walk.dry_run(limit=2, lanes=lanes)
        run = walk.whole_run(limit=2, lanes=lanes)

        assert counted.counts["read"] == counted.counts["updated"] == len(rows)
        assert (run.state, run.counts["updated"]) == ("complete", len(rows))
        assert english_site.host.values("SELECT DISTINCT times FROM thing") == [1]
        assert walk.verify(run).clean
        assert walk.verify(run, full=True).clean

    @pytest.mark.parametrize(("columns", "rows"), ALL, ids=[each[0] for each in ALL])
    def test_run_can_start_after_any_key(self, english_site: Site, columns: str, rows: list[list[str]]) -> None:
        key = names(columns)
        make_table(
            english_site, f"{columns}, done boolean NOT NULL DEFAULT false, PRIMARY KEY ({', '.join(key)})", rows
        )
        walk = Walk.of(english_site, marking(key=key if len(key) > 1 else "id"))
        run = walk.whole_run(limit=1)
        cursors = english_site.host.values("SELECT cursor FROM backfill.page WHERE run_id = %s ORDER BY number", run.id)

        assert len(cursors) == len(rows)
        for passed, cursor in enumerate(cursors[:-1], start=1):
            english_site.host.do("UPDATE thing SET done = false")
            if cursor:  # an operator can't pass an empty cursor
                assert walk.whole_run(cursor=cursor).counts["read"] == len(rows) - passed

    def test_keys_may_have_the_hosts_own_types(self, site: Site) -> None:
        site.host.do("DROP TABLE IF EXISTS thing")
        site.host.do("DROP TYPE IF EXISTS public.size")
        site.host.do("DROP DOMAIN IF EXISTS public.code")
        site.host.do("CREATE TYPE public.size AS ENUM ('small', 'large')")
        site.host.do("CREATE DOMAIN public.code AS text CHECK (value <> '')")
        rows = [["small", "b"], ["small", "a"], ["large", "a"]]
        make_table(site, "size size, code code, done bool NOT NULL DEFAULT false, PRIMARY KEY (size, code)", rows)
        walk = Walk.of(site, marking(key=("size", "code"), process=done))

        run = walk.whole_run(limit=1, lanes=2)

        assert run.counts["read"] == 3
        assert [lane.cursor for lane in run.lanes][-1] == '["large", "a"]'
        assert walk.verify(run).looked_at == 3

    def test_single_column_key_is_stored_as_plain_text(self, site: Site) -> None:
        make_table(
            site, "id uuid PRIMARY KEY, done boolean NOT NULL DEFAULT false", [["0190A5B2-0000-7000-8000-00000000000A"]]
        )

        (lane,) = Walk.of(site, marking()).whole_run().lanes

        assert lane.cursor == "0190a5b2-0000-7000-8000-00000000000a"

    def test_composite_key_is_stored_as_json(self, site: Site) -> None:
        make_table(
            site, "a text, id bigint, done boolean NOT NULL DEFAULT false, PRIMARY KEY (a, id)", [['a "quoted" ä', 7]]
        )

        (lane,) = Walk.of(site, marking(key=("a", "id"))).whole_run().lanes

        assert lane.cursor == '["a \\"quoted\\" ä", "7"]'

    @pytest.mark.parametrize(
        "cursor", ["a", "7", "[]", '["a"]', '["a", 1, 2]', '{"a": 1}', '["a", null]', '["a", true]', '["a", "x"]']
    )
    def test_malformed_cursor_is_refused(self, site: Site, cursor: str) -> None:
        make_table(site, "a text, id bigint, done boolean NOT NULL DEFAULT false, PRIMARY KEY (a, id)", [["a", 1]])

        with pytest.raises(UsageError, match="is not a key of"):
            Walk.of(site, marking(key=("a", "id"))).start(cursor=cursor)

    def test_number_in_a_cursor_may_be_unquoted(self, site: Site) -> None:
        make_table(
            site, "a text, id bigint, done boolean NOT NULL DEFAULT false, PRIMARY KEY (a, id)", [["a", 1], ["a", 2]]
        )

        assert Walk.of(site, marking(key=("a", "id"))).whole_run(cursor='["a", 1]').counts["read"] == 1

    def test_database_without_an_encoding_accepts_any_bytes(self, make_database: Any, site: Site) -> None:
        plain = Site(make_database(locale="C"), site.redis_url)
        plain.create()
        try:
            make_table(plain, "id text PRIMARY KEY, done boolean NOT NULL DEFAULT false", [["a"], ["ä"]])

            assert Walk.of(plain, marking()).whole_run(limit=1).counts["updated"] == 2
        finally:
            plain.close()

    def test_names_are_quoted(self, site: Site) -> None:
        site.host.do(
            'CREATE TABLE IF NOT EXISTS public."Odd :x ""%% {} Table" ("Key :y ""%% {}" int PRIMARY KEY, "Done" bool)'
        )
        site.host.do('INSERT INTO "Odd :x ""%% {} Table" VALUES (1, NULL), (2, true) ON CONFLICT DO NOTHING')
        odd = marking(table='Odd :x "% {} Table', key='Key :y "% {}', where='"Done" IS NULL', set='"Done" = false')

        assert lacking(site, odd) is None
        run = Walk.of(site, odd).whole_run()

        assert (run.state, run.counts["updated"]) == ("complete", 1)


class TestPages:
    def test_dry_run_counts_match_the_run_and_change_nothing(self, site: Site) -> None:
        things(site, 100)
        site.host.do("UPDATE thing SET done = true WHERE id %% 3 = 0")
        walk = Walk.of(site, marking())

        counted = walk.dry_run(limit=7, lanes=3)
        assert len(undone(site)) == 67
        run = walk.whole_run(limit=7, lanes=3)

        assert counted.counts == {"read": 67, "updated": 67, "up_to_date": 33}
        assert run.counts == {"read": 67, "updated": 67}
        assert undone(site) == []
        assert walk.whole_run().counts.get("read", 0) == 0

    def test_sparse_table_is_walked_in_pages_of_bounded_rows(self, site: Site) -> None:
        things(site, 12_000)
        site.host.do("UPDATE thing SET done = true WHERE id <> 11000")

        run = Walk.of(site, marking()).whole_run()

        assert (run.pages, run.counts["updated"]) == (3, 1)

    def test_empty_table_completes_at_once(self, site: Site) -> None:
        things(site, 0)

        assert Walk.of(site, marking()).whole_run().state == "complete"

    def test_options_are_sql_parameters(self, site: Site) -> None:
        things(site, 10)
        own = (
            Option("least", Whole(0, 100), "Only from this one on.", default=0),
            Option("named", Text(), "Only this one."),
            Option("among", Texts(), "Only these."),
        )
        where = "id >= :least AND (:named IS NULL OR name = :named) AND (:among IS NULL OR name = ANY (:among))"
        walk = Walk.of(site, marking(where=where, options=own))

        assert walk.dry_run(least=8).counts["read"] == 3
        assert walk.dry_run(named="thing 2").counts["read"] == 1
        assert walk.whole_run(among=["thing 1", "thing 2"], least=2).counts["updated"] == 1
        assert 2 not in undone(site)

    def test_sql_may_contain_colons_percent_signs_braces_and_comments(self, site: Site) -> None:
        things(site, 3)
        where = """'{"a":1, ":x": 2}'::jsonb->>'a' = '1' AND name LIKE 'thing%' AND id % 2 = 1 -- '{host}' :y"""
        walk = Walk.of(site, marking(where=where, set="""done = '12:30' > '11:00', name = '{":a"}' -- none"""))

        assert walk.whole_run().counts["updated"] == 2
        assert site.host.values("SELECT name FROM thing ORDER BY id") == ['{":a"}', "thing 2", '{":a"}']

    def test_host_placeholder_is_the_hosts_schema(self, site: Site) -> None:
        things(site, 3)
        site.host.add_leads("thing 2")

        where = 'NOT done AND EXISTS (SELECT FROM {host}."Lead" AS lead WHERE lead.id = thing.name)'

        assert Walk.of(site, marking(where=where)).whole_run().counts["updated"] == 1

    @pytest.mark.parametrize("form", ["set", "apply", "process"])
    def test_refused_row_is_quarantined_alone_and_can_be_retried(self, site: Site, form: str) -> None:
        things(site, 50)
        site.host.do("ALTER TABLE thing ADD CONSTRAINT never CHECK (NOT (done AND id = 17))")
        walk = Walk.of(site, of_form(form))

        run = walk.whole_run(limit=20)

        (name,) = walk.backfill.classes
        assert run.counts == {"read": 50, name: 49, "quarantined": 1}
        assert list(walk.quarantined(run)) == ["17"]
        assert [each.outcome for each in walk.retry(run)] == ["failed again"]
        site.host.do("ALTER TABLE thing DROP CONSTRAINT never")
        assert [each.outcome for each in walk.retry(run)] == ["went through"]
        assert undone(site) == []
        assert walk.verify(run).clean

    @pytest.mark.parametrize("form", ["set", "apply", "process"])
    def test_row_changed_by_the_host_is_read_again(self, site: Site, aside: ThreadPoolExecutor, form: str) -> None:
        things(site, 5)
        walk = Walk.of(site, of_form(form, set="done = true, name = name || ', done'"))
        run = walk.start()
        with site.host.session() as host:
            host.execute("UPDATE thing SET name = 'changed' WHERE id = 2")
            host.execute("UPDATE thing SET done = true, name = 'by the host' WHERE id = 3")
            page = aside.submit(walk.deliver_all)
            site.host.wait_until_blocked()
            host.commit()
        page.result()

        read = site.read(run.id)
        assert (read.state, read.counts["read"]) == ("complete", 4)
        assert site.host.values("SELECT name FROM thing WHERE id IN (2, 3) ORDER BY id") == [
            "changed, done",
            "by the host",
        ]

    def test_row_deleted_by_the_host_is_skipped(self, site: Site, aside: ThreadPoolExecutor) -> None:
        things(site, 5)
        walk = Walk.of(site, marking())
        run = walk.start()
        with site.host.session() as host:
            host.execute("DELETE FROM thing WHERE id = 3")
            page = aside.submit(walk.deliver_all)
            site.host.wait_until_blocked()
            host.commit()
        page.result()

        assert site.read(run.id).counts == {"read": 4, "updated": 4}


def done(rows: Sequence[Row[Any]], connection: Connection) -> None:
    """Accept the rows and change nothing."""


def of_form(form: str, set: str = "done = true") -> Any:  # noqa: A002  SqlBackfill's own parameter name
    """Return a backfill that makes the same change in the given form."""
    update = f"UPDATE thing SET {set} FROM page WHERE thing.id = page.id"
    if form == "apply":
        return marking(apply=update)
    if form == "set":
        return marking(set=set)

    def process(rows: Sequence[Row[Any]], connection: Connection) -> None:
        connection.execute(text(f"UPDATE thing SET {set} WHERE id = ANY (:ids)"), {"ids": [row.id for row in rows]})

    return marking(process=process)


class TestApply:
    def test_apply_statement_can_join_the_pages_keys(self, site: Site) -> None:
        make_table(
            site, "a text, id bpchar(3), done bool DEFAULT false, PRIMARY KEY (a, id)", [["x", "ab"], ["y", "a"]]
        )
        site.host.do("CREATE TABLE IF NOT EXISTS public.noted (a text, id text)")
        site.host.do("DELETE FROM noted")
        apply = """
            WITH noted AS (INSERT INTO noted SELECT a, id FROM page RETURNING a, id)
            UPDATE thing SET done = true FROM noted WHERE thing.a = noted.a AND thing.id = noted.id::bpchar
        """

        run = Walk.of(site, marking(key=("a", "id"), apply=apply)).whole_run()

        assert run.counts == {"read": 2, "applied": 2}
        assert site.host.values("SELECT a || rtrim(id) FROM noted ORDER BY 1") == ["xab", "ya"]
        assert site.host.values("SELECT count(*) FROM thing WHERE done") == [2]


class TestProcess:
    def test_process_gets_locked_rows_and_options_and_returns_counts(self, site: Site) -> None:
        things(site, 10)
        seen: list[int] = []

        def process(rows: Sequence[Row[Any]], connection: Connection, *, suffix: str) -> dict[str, int]:
            seen.extend(row.id for row in rows)
            with site.host.session() as other:
                free = other.execute("SELECT id FROM thing FOR NO KEY UPDATE SKIP LOCKED").fetchall()
            assert not {row["id"] for row in free} & set(seen[-len(rows) :])
            for row in rows:
                new = {"name": row.name + suffix, "id": row.id}
                connection.execute(text("UPDATE thing SET done = true, name = :name WHERE id = :id"), new)
            odd = sum(row.id % 2 for row in rows)
            return {"odd": odd, "even": len(rows) - odd}

        own = (Option("suffix", Text(), "What to append.", default="!"),)
        walk = Walk.of(site, marking(process=process, options=own, classes={"odd": "odd", "even": "even"}))

        run = walk.whole_run(limit=4, suffix="?")

        assert seen == list(range(1, 11))
        assert run.counts == {"read": 10, "odd": 5, "even": 5}
        assert site.host.values("SELECT name FROM thing WHERE id = 3") == ["thing 3?"]
        assert walk.verify(run).clean

    def test_table_may_be_named_page(self, site: Site) -> None:
        site.host.do("CREATE TABLE IF NOT EXISTS public.page (id int PRIMARY KEY, done bool NOT NULL DEFAULT false)")
        site.host.do("INSERT INTO public.page VALUES (1) ON CONFLICT DO NOTHING")
        seen: list[int] = []

        def process(rows: Sequence[Row[Any]], connection: Connection) -> None:
            seen.extend(row.id for row in rows)

        Walk.of(site, marking(table="page", process=process)).whole_run()

        assert seen == [1]

    def test_process_gets_the_named_columns(self, site: Site) -> None:
        things(site, 1)
        seen: list[tuple[Any, ...]] = []

        def process(rows: Sequence[Row[Any]], connection: Connection) -> None:
            seen.extend(tuple(row) for row in rows)

        Walk.of(site, marking(process=process, columns=("name", "id"))).whole_run()

        assert seen == [("thing 1", 1)]

    def test_failing_row_is_quarantined_with_the_line_and_no_value(self, site: Site) -> None:
        things(site, 30)

        def process(rows: Sequence[Row[Any]], connection: Connection) -> None:
            connection.execute(
                text("UPDATE thing SET done = true WHERE id = ANY (:ids)"), {"ids": [row.id for row in rows]}
            )
            for row in rows:
                if row.id in (7, 20):
                    raise ValueError(f"{row.name} is odd")

        walk = Walk.of(site, marking(process=process))

        run = walk.whole_run(limit=10)

        assert run.counts == {"read": 30, "processed": 28, "quarantined": 2}
        assert undone(site) == [7, 20]
        errors = walk.quarantined(run)
        assert errors.keys() == {"7", "20"}
        assert all(error.startswith("ValueError in process (test_sql_backfill.py, line ") for error in errors.values())
        (first, _) = walk.retry(run)
        assert "is odd" in first.whole_reason
        assert "is odd" not in first.reason

    @pytest.mark.parametrize("counts", [{"processed": 0}, {"done": 1}])
    def test_inconsistent_counts_are_refused(self, site: Site, counts: dict[str, int]) -> None:
        things(site, 1)
        walk = Walk.of(site, marking(process=lambda *_: counts))

        run = walk.whole_run()

        assert walk.quarantined(run)["1"].startswith("it got 1 rows, but counted ")

    def test_process_may_give_its_own_reason(self, site: Site) -> None:
        things(site, 1)

        def process(rows: Sequence[Row[Any]], connection: Connection) -> None:
            raise ItemsFailed("its picture is no picture")

        walk = Walk.of(site, marking(process=process))

        assert walk.quarantined(walk.whole_run()) == {"1": "its picture is no picture"}


class TestVerify:
    def test_rows_that_still_match_are_missing(self, site: Site) -> None:
        things(site, 10)
        walk = Walk.of(site, marking())
        run = walk.whole_run()
        site.host.do("UPDATE thing SET done = false WHERE id IN (2, 9)")

        for full in (False, True):
            assert walk.verify(run, full=full).missing == ("2", "9")

    def test_rows_inserted_after_the_start_count_as_arrived(self, site: Site) -> None:
        make_table(site, "id int PRIMARY KEY, done bool NOT NULL, at timestamp(3) NOT NULL", [])
        walk = Walk.of(site, marking(arrived_at="at"))
        site.host.do("INSERT INTO thing VALUES (1, false, '2020-01-01'), (5, false, '2020-01-01')")
        run = walk.whole_run()
        late = run.started_at.replace(tzinfo=None) + timedelta(seconds=1)
        site.host.do("INSERT INTO thing VALUES (2, false, %s), (3, false, '2020-01-01')", late)

        for full in (False, True):
            found = walk.verify(run, full=full)
            assert (found.missing, found.arrived, found.looked_at) == (("3",), 1, 4)


class TestSplit:
    def test_lanes_of_a_small_table_hold_equal_numbers_of_rows_to_change(self, site: Site) -> None:
        things(site, 900)
        site.host.do("UPDATE thing SET done = true WHERE id <= 600")

        assert Walk.of(site, marking()).split(lanes=3) == ["700", "800", "900"]

    def test_table_without_rows_to_change_is_split_by_all_rows(self, site: Site) -> None:
        things(site, 900)
        site.host.do("UPDATE thing SET done = true")

        assert Walk.of(site, marking()).split(lanes=3) == ["300", "600", "900"]

    def test_lanes_respect_the_smallest_size(self, site: Site) -> None:
        things(site, 900)

        assert len(Walk.of(site, marking()).split(lanes=64, smallest=300)) == 3
        assert Walk.of(site, marking()).split(lanes=64, smallest=1_000) == ["900"]

    def test_lanes_start_after_a_key(self, site: Site) -> None:
        things(site, 900)

        assert Walk.of(site, marking()).split(lanes=2, after="700") == ["800", "900"]
        assert Walk.of(site, marking()).split(lanes=2, after="900") == []


class TestTunableOptions:
    """A plug-in's own option that may change while its run is in progress."""

    @pytest.fixture
    def walk(self, site: Site) -> Walk:
        make_table(
            site, "id int PRIMARY KEY, size int, done boolean", [(number, number, False) for number in range(1, 7)]
        )
        options = (
            Option("most", Whole(1, 100), "Only rows of at most this size.", default=100, tunable=True),
            Option("kind", Text(), "Only rows of this kind."),
        )
        return Walk.of(site, marking(where="NOT done AND size <= :most AND :kind IS NULL", options=options))

    def test_next_page_gets_the_new_value(self, walk: Walk) -> None:
        run = walk.start(limit=2)
        walk.chain.step(walk.site.waiting.pop(0))

        changed = walk.runs.tune(run.id, {"most": 4})
        walk.deliver_all()

        assert changed == {"most": (100, 4)}
        assert walk.site.host.values("SELECT id FROM thing WHERE done ORDER BY id") == [1, 2, 3, 4]
        assert walk.site.read(run.id).parameters.options["most"] == 4

    def test_event_records_old_and_new_values(self, walk: Walk) -> None:
        run = walk.start()

        walk.runs.tune(run.id, {"most": 4, "limit": 7})

        (event,) = walk.site.host.events("tuned")
        assert event["detail"] == {"most": [100, 4], "limit": [500, 7]}

    def test_option_added_after_the_start_changes_from_its_default(self, walk: Walk) -> None:
        run = walk.start()
        walk.site.host.do("UPDATE backfill.run SET parameters = parameters - 'most'")

        assert walk.runs.tune(run.id, {"most": 4}) == {"most": (100, 4)}

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"most": 0}, "most: 0 is not a whole number from 1 to 100"),
            ({"most": "4"}, "most: '4' is not a whole number from 1 to 100"),
            ({"kind": "a"}, "kind can't be tuned. Tunable: limit, "),
            ({"none_such": 1}, "none_such can't be tuned. Tunable: limit, "),
            ({"max_jobs": 5}, "max_jobs: mark enqueues no jobs"),
        ],
    )
    def test_invalid_change_is_refused_as_a_whole(self, walk: Walk, changes: dict[str, Any], why: str) -> None:
        run = walk.start()

        with pytest.raises(UsageError, match=re.escape(why)):
            walk.runs.tune(run.id, {"limit": 7, **changes})

        assert walk.site.read(run.id).parameters == run.parameters


class TestTables:
    @pytest.mark.parametrize(
        ("columns", "key", "fix"),
        [
            ("id int PRIMARY KEY, done bool", "id", None),
            ("id int NOT NULL, a int, done bool, UNIQUE (id) INCLUDE (a)", "id", None),
            ("a int, id int, done bool, PRIMARY KEY (a, id)", ("a", "id"), None),
            ("id int, done bool", "id", 'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."thing" ("id")'),
            ("id int UNIQUE, done bool", "id", 'ALTER TABLE "public"."thing" ALTER COLUMN "id" SET NOT NULL'),
            (
                "a int, id int, done bool, PRIMARY KEY (a, id)",
                ("id", "a"),
                'CREATE INDEX CONCURRENTLY ON "public"."thing" ("id", "a")',
            ),
            (
                "a int, id int, done bool, PRIMARY KEY (a, id)",
                "a",
                'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."thing" ("a")',
            ),
            (
                "a int NOT NULL, id int PRIMARY KEY, done bool",
                ("a", "id"),
                'CREATE INDEX CONCURRENTLY ON "public"."thing" ("a", "id")',
            ),
            (
                "id int PRIMARY KEY DEFERRABLE, done bool",
                "id",
                'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."thing" ("id")',
            ),
            (
                "id int NOT NULL, done bool, EXCLUDE USING btree (id WITH =)",
                "id",
                'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."thing" ("id")',
            ),
            ("id int PRIMARY KEY, done bool", "nr", "the backfill's key must name columns of its table"),
        ],
    )
    def test_table_without_a_suitable_key_is_refused_with_the_fix(
        self, site: Site, columns: str, key: Any, fix: str | None
    ) -> None:
        make_table(site, columns, [])

        assert lacking(site, marking(key=key)) == fix

    @pytest.mark.parametrize(
        "index",
        ["(id) WHERE done", "(id text_pattern_ops)", '(id COLLATE "C")', "(lower(id))", "(id NULLS FIRST)"],
    )
    def test_index_of_other_order_or_partial_is_not_enough(self, site: Site, index: str) -> None:
        make_table(site, "id text NOT NULL, done bool, UNIQUE (id) DEFERRABLE", [])
        site.host.do(f"CREATE UNIQUE INDEX ON thing {index}")
        site.host.do("ALTER TABLE thing DROP CONSTRAINT thing_id_key")

        fix = lacking(site, marking())

        assert fix is not None
        assert "INDEX CONCURRENTLY" in fix

    def test_invalid_index_is_not_enough(self, own_site: Site) -> None:
        make_table(own_site, "id int NOT NULL, done bool", [])
        own_site.host.do("CREATE UNIQUE INDEX thing_id ON thing (id)")
        own_site.host.do("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'thing_id'::regclass")

        assert lacking(own_site, marking()) is not None

    def test_descending_index_is_enough(self, site: Site) -> None:
        make_table(site, "a int NOT NULL, id int NOT NULL, done bool NOT NULL DEFAULT false", [[1, 1], [1, 2]])
        site.host.do("CREATE UNIQUE INDEX ON thing (a DESC, id DESC)")

        assert lacking(site, marking(key=("a", "id"))) is None
        assert Walk.of(site, marking(key=("a", "id"))).whole_run(limit=1).counts["updated"] == 2

    def test_partitioned_table_is_walked_completely(self, site: Site) -> None:
        site.host.do("DROP TABLE IF EXISTS thing")
        site.host.do(
            "CREATE TABLE public.thing (id int PRIMARY KEY, done bool NOT NULL DEFAULT false) PARTITION BY RANGE (id)"
        )
        for first in (1, 51):
            site.host.do(
                f"CREATE TABLE public.thing_{first} PARTITION OF thing FOR VALUES FROM ({first}) TO ({first + 50})"
            )
        site.host.do("INSERT INTO thing SELECT generate_series(1, 100)")
        walk = Walk.of(site, marking())

        assert walk.whole_run(limit=7, lanes=2).counts["updated"] == 100

    def test_table_with_inheritance_children_is_refused(self, site: Site) -> None:
        make_table(site, "id int PRIMARY KEY, done bool", [])
        site.host.do("CREATE TABLE public.heir () INHERITS (thing)")
        try:
            assert lacking(site, marking()) == "walk each table on its own"
        finally:
            site.host.do("DROP TABLE heir")

    def test_run_on_an_unsuitable_table_is_refused(self, site: Site) -> None:
        make_table(site, "id int NOT NULL, done bool", [])
        walk = Walk.of(site, marking())

        with site.engine.begin() as connection, pytest.raises(HostError, match="CREATE UNIQUE INDEX CONCURRENTLY"):
            walk.backfill.check(connection, {}, apply=True)


def lacking(site: Site, backfill: Any) -> str | None:
    """Return the fix for a table that can't be walked, or None."""
    walk = Walk.of(site, backfill)
    with site.engine.begin() as connection:
        found = walk.backfill.missing(connection, apply=True)
    return found[-1].fix.removeprefix("have a DBA run ").rpartition("have a DBA run ")[2] if found else None


class TestDeclarations:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"set": ""}, "give it exactly one of set, apply, process"),
            ({"set": "done = true", "apply": "SELECT"}, "give it exactly one of"),
            ({"key": ""}, "it needs a key and a where"),
            ({"where": " "}, "it needs a key and a where"),
            ({"classes": {"a": "a", "b": "b"}}, "it can have only one class"),
        ],
    )
    def test_invalid_declaration_is_refused_immediately(self, changes: dict[str, Any], why: str) -> None:
        with pytest.raises(ValueError, match=why):
            marking(**changes)


def test_bounds_of_a_composite_key_are_json(site: Site) -> None:
    make_table(
        site, "a text, id bigint, done boolean NOT NULL DEFAULT false, PRIMARY KEY (a, id)", [["x", 1], ["y", 2]]
    )
    walk = Walk.of(site, marking(key=("a", "id")))

    assert [json.loads(each) for each in walk.split(lanes=2)] == [["x", "1"], ["y", "2"]]


class TestDocumentationExamples:
    @staticmethod
    def example(number: int, name: str) -> SqlBackfill:
        page = (Path(__file__).parents[2] / "docs/another-backfill.md").read_text(encoding="utf-8")
        code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[number]
        assert len(code.splitlines()) <= 30
        made: dict[str, Any] = {}
        exec(code, made)  # noqa: S102  our own documentation
        found: SqlBackfill = made[name]
        return found

    def test_sql_example_changes_the_right_rows(self, site: Site) -> None:
        site.host.add_client("client-2")
        site.host.add_leads("a", email="A@B.example")
        site.host.add_leads("b", email="b@b.example")
        site.host.add_leads("c", email="C@b.example", clientId="client-2")
        walk = Walk.of(site, self.example(0, "normalize_emails"))

        run = walk.whole_run(client_ids=["client-1"])

        assert run.counts == {"read": 1, "updated": 1}
        assert site.host.values('SELECT email FROM "Lead" ORDER BY id') == ["a@b.example", "b@b.example", "C@b.example"]
        assert walk.verify(run).clean

    def test_python_example_changes_the_right_rows(self, site: Site) -> None:
        site.host.add_leads("a", "b", email="a@b.example")
        site.host.add_leads("c")
        walk = Walk.of(site, self.example(1, "digest_emails"))

        run = walk.whole_run(limit=1)

        assert run.counts == {"read": 2, "processed": 2}
        assert site.host.values('SELECT DISTINCT length("jobTitle") FROM "Lead" WHERE id <> \'c\'') == [64]
        assert walk.verify(run).clean
