"""The database URL, including Prisma's form, and the classification of database errors."""

import psycopg
import pytest
from psycopg.errors import lookup
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import database
from backfill_tasks.engine.database import parse_url
from backfill_tasks.errors import ConfigurationError

OUTAGES = {
    "25006": "a server that is read-only",
    "57P01": "a server that shuts down",
    "57P02": "a server that has crashed",
    "57P03": "a server that starts up",
    "57P05": "a session that idled for too long",
    "08006": "a connection that broke",
    "08P01": "a pooler that lost its server",
    "53300": "too many connections",
    "53100": "a full disk",
    "58030": "an input or output error",
    "28P01": "a password that is being changed",
    "3D000": "a database that is being restored",
}
CONTENTION = {
    "40P01": "a deadlock",
    "40001": "a serialization failure",
    "55P03": "a lock time-out",
    "55000": "an object in another state",
    "57014": "a statement time-out",
    "25P02": "a transaction that is aborted",
    "25P03": "a session that stood too long",
    "25P04": "a transaction that took too long",
}
PASSING = {**OUTAGES, **CONTENTION}
LASTING = {
    "42501": "a missing right",
    "42P01": "a missing table",
    "42703": "a missing column",
    "3F000": "a missing schema",
    "0A000": "what the server can't do",
}
OF_A_ROW = {
    "23505": "a key that is there",
    "23503": "a row that is gone",
    "23514": "a check",
    "23502": "a missing value",
    "22001": "a value that is too long",
    "P0001": "a trigger that refuses",
    "XX000": "an internal error",
    "XX001": "a damaged row",
}
FROM_A_POOLER = (
    "server closed the connection",
    "query_wait_timeout",
    "Max client connections reached",
    "unable to check out connection from the pool",
)


def failed(error: Exception) -> DBAPIError:
    """Return a failed statement's error as the engine sees it."""
    return DBAPIError("SELECT secret", {"password": "hunter2"}, error)


def of(code: str) -> DBAPIError:
    return failed(lookup(code)("it failed"))


class TestAddress:
    def test_plain_url_is_parsed(self) -> None:
        address = parse_url("postgresql://user:p%40ss@db.example.com:6543/app")

        wanted = {"user": "user", "password": "p@ss", "host": "db.example.com", "port": "6543", "dbname": "app"}
        assert wanted.items() <= address.conninfo.items()
        assert (address.schema, address.pooled) == ("public", False)

    def test_prismas_own_parameters_never_reach_libpq(self) -> None:
        address = parse_url(
            "postgres://user@host/app?schema=crm&pgbouncer=true&connection_limit=1&pool_timeout=10&socket_timeout=5"
            "&statement_cache_size=0&sslaccept=accept_invalid_certs&sslidentity=x&sslpassword=y"
            "&single_use_connections=true&supa=base-pooler.x&workaround=supabase-pooler.vercel&uselibpqcompat=true"
            "&max_connection_lifetime=9&max_idle_connection_lifetime=9"
        )

        added = set(parse_url("postgresql:///app").conninfo) - {"dbname"}
        assert set(address.conninfo) - added == {"user", "host", "dbname"}
        assert (address.schema, address.pooled) == ("crm", True)

    @pytest.mark.parametrize("query", ["", "?schema=", "?pgbouncer=false", "?&"])
    def test_schema_defaults_to_public(self, query: str) -> None:
        assert parse_url(f"postgresql://host/app{query}").schema == "public"

    def test_schema_may_have_any_name(self) -> None:
        assert parse_url("postgresql://host/app?schema=My%20%22CRM%22%20%26%20co").schema == 'My "CRM" & co'

    @pytest.mark.parametrize(
        ("url", "key", "value"),
        [
            ("postgresql://host/app?options=-c%20work_mem%3D8MB", "options", "-c work_mem=8MB"),
            ("postgresql://host/app?application_name=a+b", "application_name", "a+b"),
            ("postgresql:///app?host=/tmp", "host", "/tmp"),  # noqa: S108  a Unix socket's folder
            ("postgresql://host/app?sslmode=require&schema=crm", "sslmode", "require"),
            ("postgresql://host/app?connect_timeout=3", "connect_timeout", "3"),
            ("postgresql://host/app?keepalives_idle=60", "keepalives_idle", "60"),
            ("postgresql://host/app?tcp_user_timeout=3000", "tcp_user_timeout", "3000"),
            ("postgresql://one:1,two:2/app", "host", "one,two"),
            ("postgresql://one:1,two:2/app", "port", "1,2"),
            ("postgresql://[2001:db8::1]:5433/app", "host", "2001:db8::1"),
        ],
    )
    def test_libpq_parameters_are_passed_through(self, url: str, key: str, value: str) -> None:
        assert parse_url(url).conninfo[key] == value

    @pytest.mark.parametrize(
        "limit", ["connect_timeout", "keepalives", "keepalives_idle", "keepalives_count", "tcp_user_timeout"]
    )
    def test_infinite_timeout_is_replaced_by_the_default(self, limit: str) -> None:
        unlimited = parse_url(f"postgresql://host/app?{limit}=0").conninfo

        assert unlimited[limit] == parse_url("postgresql://host/app").conninfo[limit] != "0"

    def test_client_encoding_is_always_utf_8(self) -> None:
        assert parse_url("postgresql://host/app?client_encoding=LATIN1").conninfo["client_encoding"] == "UTF8"

    def test_missing_host_is_left_to_libpq(self) -> None:
        assert "host" not in parse_url("postgresql:///app").conninfo

    def test_address_is_shown_without_user_and_password(self) -> None:
        assert str(parse_url("postgresql://user:hunter2@db.example.com/app")) == "app on db.example.com:5432"

    def test_address_that_may_be_a_password_is_not_shown(self) -> None:
        assert "hunter2" not in str(parse_url("postgresql:///hunter2"))

    @pytest.mark.parametrize("scheme", ["prisma", "prisma+postgres"])
    def test_prisma_accelerate_url_is_refused_with_the_variable_to_set(self, scheme: str) -> None:
        with pytest.raises(ConfigurationError, match="directUrl") as refused:
            parse_url(f"{scheme}://accelerate.prisma-data.net/?api_key=hunter2")
        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize(
        "url", ["", "app", "mysql://host/app", "postgresql:/host/app", "://host/app", "redis://host/0"]
    )
    def test_other_url_scheme_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="must begin with postgresql://"):
            parse_url(url)

    @pytest.mark.parametrize("url", ["postgresql://host", "postgresql://host/", "postgresql://host:5432/?schema=crm"])
    def test_url_without_a_database_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="names no database"):
            parse_url(url)

    def test_unknown_parameter_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r"does not know: sslmod$"):
            parse_url("postgresql://user:hunter2@host/app?sslmod=require")

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://user:hun/ter2@host:5432/app",
            "postgresql://user:hun?ter2@host:5432/app",
            "postgresql://user:hun#ter2@host:5432/app",
            "postgresql://user:hun@ter2@host:5432/app",
            "postgresql://user:hun%zzter2@host:5432/app",
            "postgresql://user:hun%ter2@host:5432/app",
            "postgresql://user:hun%00ter2@host:5432/app",
            "postgresql://user:p@host:hunter2/app",
            "postgresql://user:p@host:5432:hunter2/app",
            "postgresql://user:p@[hunter2/app",
            "postgresql://user:p@host/app#hunter2",
            "postgresql://user:p@host/app?hunter2",
        ],
    )
    def test_malformed_url_is_refused_without_repeating_the_password(self, url: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            parse_url(url)

        said = str(refused.value)
        assert len(said.splitlines()) == 1
        assert not any(part in said for part in ("hun", "ter2", "p@host"))


class TestErrors:
    @pytest.mark.parametrize("code", PASSING, ids=PASSING.get)
    def test_outages_and_contention_are_transient(self, code: str) -> None:
        assert database.is_transient(of(code))
        assert not database.is_permanent(of(code))

    @pytest.mark.parametrize("code", OUTAGES, ids=OUTAGES.get)
    def test_outage_is_recognized(self, code: str) -> None:
        assert database.is_outage(of(code))

    @pytest.mark.parametrize("code", CONTENTION, ids=CONTENTION.get)
    def test_contention_is_not_an_outage(self, code: str) -> None:
        assert not database.is_outage(of(code))

    @pytest.mark.parametrize("said", FROM_A_POOLER)
    def test_poolers_internal_error_is_an_outage(self, said: str) -> None:
        assert database.is_outage(failed(lookup("XX000")(said)))

    def test_refused_connection_is_transient(self) -> None:
        assert database.is_transient(failed(psycopg.OperationalError("connection refused")))

    @pytest.mark.parametrize("code", LASTING, ids=LASTING.get)
    def test_lasting_error_is_permanent(self, code: str) -> None:
        assert database.is_permanent(of(code))
        assert not database.is_transient(of(code))

    @pytest.mark.parametrize("code", OF_A_ROW, ids=OF_A_ROW.get)
    def test_row_error_is_neither_transient_nor_permanent(self, code: str) -> None:
        assert not database.is_transient(of(code))
        assert not database.is_permanent(of(code))

    def test_driver_error_is_neither_transient_nor_permanent(self) -> None:
        refused = failed(psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"))

        assert not database.is_transient(refused)
        assert not database.is_permanent(refused)

    def test_foreign_key_violation_is_recognized(self) -> None:
        assert database.is_foreign_key_violation(of("23503"))
        assert not database.is_foreign_key_violation(of("23505"))


class TestReason:
    def test_reason_has_the_databases_message_and_code(self) -> None:
        assert database.reason(of("40P01")) == "it failed (40P01)"

    def test_reason_is_one_line(self) -> None:
        told = failed(psycopg.OperationalError("\n  connection refused\n\tIs the server running?\n"))

        assert database.reason(told) == "connection refused"

    def test_reason_repeats_neither_statement_nor_parameters(self) -> None:
        said = database.reason(of("23514"))

        assert "secret" not in said
        assert "hunter2" not in said

    def test_empty_error_reads_no_message(self) -> None:
        assert database.reason(failed(psycopg.OperationalError(""))) == "no message"
