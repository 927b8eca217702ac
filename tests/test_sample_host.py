"""The guarantees of the sample host database to the demo, the tests and the benchmarks."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from sandbox.host.sample import CASES, SCHEMA, TABLES, Ids, create_schema, fill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection
    from psycopg.abc import Query

ROOT = Path(__file__).parents[1]
HOST_SCHEMA = ROOT / os.environ.get("HOST_SCHEMA", "../shared/host/schema.sql")
UNTIL = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DISQUALIFYING = {"Blacklist", "Opt Out", "Opted Out", "Unsubscribe", "Unsubscribed", "Bounced", "Bounce"}

needs_host_schema = pytest.mark.skipif(
    not HOST_SCHEMA.is_file(),
    reason=f"the host's own schema is not at {HOST_SCHEMA}: set HOST_SCHEMA",
)


@pytest.fixture
def database(empty_database: str) -> Iterator[Connection[Any]]:
    """An empty database, in autocommit."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def host(database: Connection[Any]) -> Connection[Any]:
    """A database with the host's tables, all empty."""
    create_schema(database)
    return database


def rows(connection: Connection[Any], query: Query) -> list[Any]:
    return connection.execute(query).fetchall()


def column(connection: Connection[Any], query: Query) -> list[Any]:
    return [value for (value,) in rows(connection, query)]


def scalar(connection: Connection[Any], query: Query) -> Any:
    (value,) = column(connection, query)
    return value


def fingerprint(connection: Connection[Any]) -> list[str]:
    """Return a hash of each table's contents."""
    return [
        scalar(connection, f"""SELECT md5(string_agg(t::text, chr(10) ORDER BY "id")) FROM "{table}" AS t""")
        for table in TABLES
    ]


def empty(connection: Connection[Any]) -> bool:
    return all(scalar(connection, f'SELECT count(*) FROM "{table}"') == 0 for table in TABLES)


def truncate(connection: Connection[Any]) -> None:
    connection.execute('TRUNCATE "Client" CASCADE')


def structure(connection: Connection[Any], schema: str) -> tuple[set[str], set[str], set[str]]:
    """Return the columns, indexes and constraints of the host's tables, without the schema's name."""
    columns = f"""
        SELECT concat_ws(' ', table_name, column_name, udt_name, is_nullable, datetime_precision,
                         replace(column_default, quote_ident(table_schema) || '.', ''))
        FROM information_schema.columns WHERE table_schema = '{schema}'"""
    indexes = f"""
        SELECT replace(indexdef, quote_ident(schemaname) || '.', '')
        FROM pg_indexes WHERE schemaname = '{schema}'"""
    constraints = f"""
        SELECT concat_ws(' ', split_part(conrelid::regclass::text, '.', -1),
                         replace(pg_get_constraintdef(oid), quote_ident('{schema}') || '.', ''))
        FROM pg_constraint WHERE connamespace = '{schema}'::regnamespace"""
    return (
        set(column(connection, columns)),
        set(column(connection, indexes)),
        set(column(connection, constraints)),
    )


class TestSchema:
    def test_is_created_in_the_named_schema(self, database: Connection[Any]) -> None:
        create_schema(database, schema="Host app")

        assert set(column(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'Host app'")) == set(TABLES)
        assert column(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []

    def test_is_created_atomically(self, database: Connection[Any], tmp_path: Path) -> None:
        broken = tmp_path / "broken.sql"
        broken.write_text(f"{SCHEMA.read_text()}; CREATE TABLE broken (")

        with pytest.raises(psycopg.errors.SyntaxError):
            create_schema(database, definition=broken)

        assert column(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []

    @needs_host_schema
    def test_has_only_structures_of_the_host(self, host: Connection[Any]) -> None:
        create_schema(host, schema="real", definition=HOST_SCHEMA)

        for ours, theirs in zip(structure(host, "public"), structure(host, "real"), strict=True):
            assert ours - theirs == set()

    @needs_host_schema
    def test_has_every_structure_of_the_hosts_job_table(self, host: Connection[Any]) -> None:
        create_schema(host, schema="real", definition=HOST_SCHEMA)

        for ours, theirs in zip(structure(host, "public"), structure(host, "real"), strict=True):
            assert {thing for thing in theirs - ours if "BackgroundJob" in thing.split("(")[0]} == set()


class TestLeads:
    def test_workspace_sizes_differ_widely(self, host: Connection[Any]) -> None:
        fill(host, 5_000)

        leads = column(
            host,
            'SELECT count(l."id") FROM "Client" c LEFT JOIN "Lead" l ON l."clientId" = c."id" GROUP BY c."id"',
        )
        assert len(leads) == 9
        assert max(leads) > 2_000
        assert sum(count > 50 for count in leads) == 7
        assert min(leads) == 0

    def test_questions_are_a_json_array_plain_text_or_missing(self, host: Connection[Any]) -> None:
        fill(host, 0)

        questions = set(column(host, 'SELECT left("qualificationQuestions", 1) FROM "WorkspaceSettings"'))
        assert {"[", "H", "", None} <= questions

    def test_every_disqualifying_tag_and_near_misses_occur(self, host: Connection[Any]) -> None:
        fill(host, CASES)

        tags = set(column(host, 'SELECT "sentimentTag" FROM "Lead"'))
        assert tags >= DISQUALIFYING
        assert tags >= {"blacklist", "Bounced ", "Opt-Out", "UNSUBSCRIBED", ""}
        assert tags >= {"Interested", "Meeting Requested", "Not Interested", "Information Requested", None}

    def test_every_score_occurs(self, host: Connection[Any]) -> None:
        fill(host, CASES)

        assert set(column(host, 'SELECT "overallScore" FROM "Lead"')) == {None, 1, 2, 3, 4}
        assert scalar(host, 'SELECT count(*) FROM "Lead" WHERE num_nulls("overallScore", "scoredAt") = 1') == 0

    def test_each_lead_is_scored_eligible_or_without_an_inbound_message(self, host: Connection[Any]) -> None:
        sample = fill(host, 1_000)

        assert sample.leads == 1_000
        assert sample.leads == sample.scored + sample.no_inbound + sample.eligible
        assert sample.eligible == (
            sample.disqualified + sample.inserted + sample.requeued + sample.refreshed + sample.in_flight
        )

    @pytest.mark.parametrize("leads", [CASES, 1_000])
    def test_each_class_has_a_lead(self, host: Connection[Any], leads: int) -> None:
        sample = fill(host, leads)

        assert min(sample.disqualified, sample.inserted, sample.requeued, sample.refreshed, sample.in_flight) > 0

    @pytest.mark.parametrize("share", [0, 0.35, 1])
    def test_the_share_of_scored_leads_is_configurable(self, host: Connection[Any], share: float) -> None:
        sample = fill(host, 3_000, scored_share=share)

        assert sample.scored == pytest.approx(3_000 * share, abs=100)

    @pytest.mark.parametrize("eligible", [0, 7, 500])
    def test_the_number_of_eligible_leads_is_exact(self, host: Connection[Any], eligible: int) -> None:
        sample = fill(host, 500, eligible=eligible)

        assert sample.eligible == eligible


class TestMessages:
    def test_some_leads_have_no_message_and_some_only_outbound_ones(self, host: Connection[Any]) -> None:
        fill(host, CASES)

        directions = column(
            host,
            'SELECT string_agg(DISTINCT m."direction", \' \') FROM "Lead" l '
            'LEFT JOIN "Message" m ON m."leadId" = l."id" GROUP BY l."id"',
        )
        assert set(directions) == {None, "outbound", "inbound outbound"}

    def test_some_newest_inbound_messages_are_simultaneous(self, host: Connection[Any]) -> None:
        fill(host, CASES)

        ties = rows(
            host,
            'SELECT FROM "Lead" l JOIN "Message" m ON m."leadId" = l."id" AND m."sentAt" = l."lastInboundAt" '
            'WHERE m."direction" = \'inbound\' GROUP BY l."id" HAVING count(*) = 2',
        )
        assert len(ties) == 4

    def test_come_through_several_channels_and_sources(self, host: Connection[Any]) -> None:
        fill(host, 1_000)

        ways = set(rows(host, 'SELECT "channel", "source" FROM "Message"'))
        assert {channel for channel, _ in ways} == {"email", "sms", "linkedin"}
        assert len(ways) == 7

    def test_match_the_timestamps_on_their_lead(self, host: Connection[Any]) -> None:
        fill(host, 1_000)

        newest = """
            SELECT "leadId",
                   max("sentAt") FILTER (WHERE "direction" = 'inbound') AS inbound,
                   max("sentAt") FILTER (WHERE "direction" = 'outbound') AS outbound,
                   max("sentAt") AS newest
            FROM "Message" GROUP BY "leadId"
        """
        disagreements = f"""
            SELECT l."id" FROM "Lead" l LEFT JOIN ({newest}) AS m ON m."leadId" = l."id"
            WHERE (l."lastInboundAt", l."lastOutboundAt", l."lastMessageAt")
                  IS DISTINCT FROM (m.inbound, m.outbound, m.newest)
        """
        assert column(host, disagreements) == []


class TestJobs:
    def test_earlier_backfills_left_jobs_in_every_status(self, host: Connection[Any]) -> None:
        fill(host, CASES)

        left_over = set(
            rows(
                host,
                'SELECT "status"::text, "type"::text, "maxAttempts" FROM "BackgroundJob" '
                'WHERE "dedupeKey" = \'lead_scoring_backfill:\' || "leadId"',
            )
        )
        statuses = {"PENDING", "RUNNING", "SUCCEEDED", "FAILED"}
        assert left_over == {(status, "LEAD_SCORING_POST_PROCESS", 3) for status in statuses}

    def test_fields_match_the_status(self, host: Connection[Any]) -> None:
        fill(host, 3_000)

        fields = """
            SELECT DISTINCT "status"::text, num_nonnulls("lockedAt", "lockedBy"), "startedAt" IS NOT NULL,
                            "finishedAt" IS NOT NULL, "lastError" IS NOT NULL
            FROM "BackgroundJob"
        """
        assert set(rows(host, fields)) == {
            ("PENDING", 0, False, False, False),
            ("PENDING", 0, True, False, True),
            ("RUNNING", 2, True, False, False),
            ("SUCCEEDED", 0, True, True, False),
            ("FAILED", 0, True, True, True),
        }

    def test_some_anchors_are_older_than_the_newest_inbound_message(self, host: Connection[Any]) -> None:
        fill(host, 1_000)

        stale = """
            SELECT count(*) FROM "BackgroundJob" j JOIN "Message" m ON m."id" = j."messageId"
            JOIN "Lead" l ON l."id" = j."leadId"
            WHERE j."dedupeKey" LIKE 'lead\\_scoring\\_backfill:%' AND m."sentAt" < l."lastInboundAt"
        """
        assert scalar(host, stale) > 0

    def test_the_host_has_its_own_jobs(self, host: Connection[Any]) -> None:
        fill(host, 3_000)

        assert len(column(host, 'SELECT DISTINCT "type" FROM "BackgroundJob"')) == 8
        live = """
            SELECT count(*) FROM "BackgroundJob"
            WHERE "dedupeKey" = concat('lead_scoring:', "leadId", ':', "messageId")
        """
        assert scalar(host, live) > 100

    def test_messages_and_workspaces_belong_to_the_jobs_lead(self, host: Connection[Any]) -> None:
        fill(host, 1_000)

        strangers = """
            SELECT j."id" FROM "BackgroundJob" j
            JOIN "Message" m ON m."id" = j."messageId" JOIN "Lead" l ON l."id" = j."leadId"
            WHERE m."leadId" <> l."id" OR m."direction" <> 'inbound' OR j."clientId" <> l."clientId"
        """
        assert column(host, strangers) == []


class TestTimes:
    @pytest.mark.parametrize(
        ("table", "name"),
        [
            ("Lead", "createdAt"),
            ("Lead", "updatedAt"),
            ("Lead", "scoredAt"),
            ("Message", "sentAt"),
            ("BackgroundJob", "createdAt"),
            ("BackgroundJob", "updatedAt"),
            ("BackgroundJob", "lockedAt"),
            ("BackgroundJob", "finishedAt"),
        ],
    )
    def test_are_within_two_years_before_the_end(self, host: Connection[Any], table: str, name: str) -> None:
        fill(host, 1_000, until=UNTIL)

        ((first, last),) = rows(host, f'SELECT min("{name}"), max("{name}") FROM "{table}"')
        assert first >= datetime(2024, 3, 1, 12, 0)  # noqa: DTZ001 - the columns hold UTC without a zone
        assert last <= datetime(2026, 3, 1, 12, 0)  # noqa: DTZ001

    def test_do_not_depend_on_the_sessions_time_zone(self, host: Connection[Any]) -> None:
        fill(host, 50, until=UNTIL)
        before = fingerprint(host)
        truncate(host)

        host.execute("SET TimeZone = 'Asia/Kathmandu'")
        fill(host, 50, until=UNTIL)

        assert fingerprint(host) == before


class TestIds:
    @pytest.mark.parametrize("table", TABLES)
    def test_are_uuids_by_default(self, host: Connection[Any], table: str) -> None:
        fill(host, 200)

        assert scalar(host, f'SELECT bool_and("id" = "id"::uuid::text) FROM "{table}"')

    def test_cuids_sort_by_creation_time(self, host: Connection[Any]) -> None:
        fill(host, 200, ids="cuid")

        assert scalar(host, """SELECT bool_and("id" ~ '^c[a-z0-9]{24}$') FROM "Lead" """)
        by_id = column(host, 'SELECT "id" FROM "Lead" ORDER BY "id"')
        assert by_id == column(host, 'SELECT "id" FROM "Lead" ORDER BY "createdAt"')

    @pytest.mark.parametrize("pattern", ["^[0-9a-f]", "^[0-9A-F]+-", "^cm", "^lead_", "^LEAD_", "^_", "^[é线Ωжñ]"])
    def test_mixed_ids_are_of_every_kind(self, host: Connection[Any], pattern: str) -> None:
        fill(host, 1_000, ids="mixed")

        assert scalar(host, f"""SELECT count(*) FROM "Lead" WHERE "id" ~ '{pattern}'""") > 10


class TestFill:
    @pytest.mark.parametrize("ids", ["uuid", "cuid", "mixed"])
    def test_gives_the_same_rows_for_the_same_arguments(self, host: Connection[Any], ids: Ids) -> None:
        first = fill(host, 300, seed=7, ids=ids, until=UNTIL)
        before = fingerprint(host)
        truncate(host)

        assert fill(host, 300, seed=7, ids=ids, until=UNTIL) == first
        assert fingerprint(host) == before

    def test_gives_other_rows_for_another_seed(self, host: Connection[Any]) -> None:
        fill(host, 300, seed=1, until=UNTIL)
        one = set(column(host, 'SELECT "id" FROM "Lead"'))
        truncate(host)
        fill(host, 300, seed=2, until=UNTIL)

        assert one.isdisjoint(column(host, 'SELECT "id" FROM "Lead"'))

    def test_restores_keys_and_indexes(self, host: Connection[Any]) -> None:
        before = structure(host, "public")

        fill(host, 50)

        assert structure(host, "public") == before

    def test_leaves_statistics_and_a_visibility_map(self, host: Connection[Any]) -> None:
        fill(host, 300)

        pages = "SELECT relallvisible, relpages, reltuples FROM pg_class WHERE oid = '\"Lead\"'::regclass"
        ((visible, read, tuples),) = rows(host, pages)
        assert (visible, tuples) == (read, 300)

    def test_vacuums_even_without_autocommit(self, host: Connection[Any]) -> None:
        host.autocommit = False

        fill(host, 300)

        assert not host.autocommit
        assert scalar(host, "SELECT relallvisible > 0 FROM pg_class WHERE oid = '\"Lead\"'::regclass")

    def test_fills_a_schema_other_than_public(self, host: Connection[Any]) -> None:
        create_schema(host, schema="Host app")

        sample = fill(host, 50, schema="Host app")

        assert sample.leads == 50
        assert scalar(host, 'SELECT count(*) FROM "Host app"."Lead"') == 50
        assert empty(host)

    def test_rolls_back_with_the_callers_transaction(self, host: Connection[Any]) -> None:
        with host.transaction(force_rollback=True):
            search_path = scalar(host, "SHOW search_path")
            fill(host, 50)
            assert scalar(host, "SHOW search_path") == search_path

        assert empty(host)

    def test_leaves_no_temporary_objects(self, host: Connection[Any]) -> None:
        fill(host, 50)

        assert scalar(host, "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()") == 0
        assert scalar(host, "SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()") == 0

    def test_refuses_a_non_empty_database(self, host: Connection[Any]) -> None:
        fill(host, 50)
        before = fingerprint(host)

        with pytest.raises(ValueError, match="are not empty"):
            fill(host, 50)

        assert fingerprint(host) == before

    @pytest.mark.parametrize(
        "arguments",
        [
            {"leads": -1},
            {"ids": "serial"},
            {"scored_share": 1.5},
            {"leads": 10, "eligible": 11},
            {"eligible": -1},
            {"until": UNTIL.replace(tzinfo=None)},
        ],
        ids=str,
    )
    def test_refuses_invalid_arguments(self, host: Connection[Any], arguments: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="give"):
            fill(host, **arguments)

        assert empty(host)

    @needs_host_schema
    def test_fills_the_real_host_schema_with_the_same_sample(self, host: Connection[Any]) -> None:
        create_schema(host, schema="real", definition=HOST_SCHEMA)

        ours = fill(host, 500, until=UNTIL)
        theirs = fill(host, 500, until=UNTIL, schema="real")

        assert theirs == ours
        assert column(host, 'SELECT "id" FROM "Lead" EXCEPT SELECT "id" FROM real."Lead"') == []
