"""Bad input: one clear line on standard error, the right exit status, and no change."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from acceptance.commands import assert_refused, backfill_against, redis_contents
from acceptance.host import Host, make_host
from harness import Backfill
from long_forms import long, sampled
from psycopg import sql

from sandbox.servers import Redis

FILE = "checkpoint.json"

#: Neither part occurs in any word, so a search for it finds only leaks.
PASSWORD = ("Xq7k", "Zw9p")


@pytest.fixture(scope="module")
def host(make_database: Callable[..., str]) -> Host:
    """A small host database with a ledger and a run; no test in this module changes it."""
    return make_host(make_database(), 100)


@pytest.fixture(scope="module")
def steady(host: Host, deserted_broker: Redis, tmp_path_factory: pytest.TempPathFactory) -> Backfill:
    command = backfill_against(tmp_path_factory.mktemp("steady"), host.url, deserted_broker.url)
    command.json("run", "--apply", "--detach", "--limit", "20")
    return command


@pytest.fixture
def tool(steady: Backfill, host: Host, tmp_path: Path) -> Iterator[Backfill]:
    """The command in an empty directory; asserts that the test changed neither the host database nor Redis."""
    before = (host.contents(), redis_contents(steady))
    yield Backfill(tmp_path, steady.environment)
    assert (host.contents(), redis_contents(steady)) == before


@pytest.mark.parametrize(
    ("options", "says"),
    sampled(
        [
            (["--no-such-option"], "--no-such-option"),
            (["surplus"], "surplus"),
            (["--limit", "-5"], "--limit"),
            (["--limit", "0"], "--limit"),
            (["--limit", "abc"], "--limit"),
            (["--limit", "10.5"], "--limit"),
            (["--limit", "10001"], "--limit"),
            (["--limit", ""], "--limit"),
            (["--limit"], "--limit"),
            (["--delay-ms", "-1"], "--delay-ms"),
            (["--delay-ms", "soon"], "--delay-ms"),
            (["--delay-ms", "86400001"], "--delay-ms"),
            (["--page-delay-ms", "-1"], "--page-delay-ms"),
            (["--page-delay-ms", "600001"], "--page-delay-ms"),
            (["--lanes", "0"], "--lanes"),
            (["--lanes", "65"], "--lanes"),
            (["--cursor", ""], "the value is empty: give one, or remove the option to start at the first key"),
            (["--cursor", "\udcff"], "--cursor"),
            (["--client-id", ""], "the value is empty: give one, or remove the option"),
            (["--client-id", "no-such-workspace"], "'no-such-workspace'"),
            (["--client-id", "\udcff"], "--client-id"),
            (["--dry-run"], "--dry-run and --apply contradict each other"),
            (["--run-until-done", "--single-batch"], "--run-until-done and --single-batch contradict each other"),
            (["--single-batch", "--lanes", "2"], "remove --lanes"),
            (["--state-file", "no/such/directory/file"], "no/such/directory"),
            (["--state-file", "."], "--state-file"),
            (["--state-file", ""], "directory"),
        ],
        every=3,
    ),
    ids=lambda value: " ".join(value).encode("ascii", "backslashreplace").decode() if isinstance(value, list) else "",
)
def test_an_invalid_option_is_refused(tool: Backfill, options: list[str], says: str) -> None:
    done = tool("run", "--apply", *options)

    assert_refused(done)
    assert says in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu"], "rnu"),
        (["run", "--detach"], "--detach needs --apply"),
        (["run", "--client-id", "no-such-workspace"], "'no-such-workspace'"),
        (["runs", "--most", "0"], "--most"),
        (["status", "\udcff"], "run"),
        (["status", ""], "run"),
    ],
    ids=["unknown command", "detached dry run", "unknown workspace in a dry run", "no runs", "no text", "no run"],
)
def test_an_invalid_command_is_refused(tool: Backfill, arguments: list[str], says: str) -> None:
    done = tool(*arguments)

    assert_refused(done)
    assert says in done.stderr


@pytest.mark.parametrize("between", ["/", "@", *long("?", "#", "%zz")])
@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
def test_an_unencoded_password_is_not_shown(tool: Backfill, variable: str, between: str) -> None:
    url = {
        "DATABASE_URL": f"postgresql://app:{between.join(PASSWORD)}@127.0.0.1:1/host",
        "REDIS_URL": f"redis://:{between.join(PASSWORD)}@127.0.0.1:1/0",
    }[variable]

    done = tool.set(**{variable: url})("run", "--apply")

    assert_refused(done)
    assert "percent-encode" in done.stderr
    assert [part for part in PASSWORD if part in done.stderr] == []


@pytest.mark.parametrize("between", ["/", "@", *long("?", "#", "%zz")])
def test_config_does_not_show_an_unencoded_password(tool: Backfill, between: str) -> None:
    done = tool.set(
        DATABASE_URL=f"postgresql://app:{between.join(PASSWORD)}@127.0.0.1:1/host",
        REDIS_URL=f"redis://:{between.join(PASSWORD)}@127.0.0.1:1/0",
    )("config")

    assert [part for part in PASSWORD if part in done.stdout + done.stderr] == []
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "DATABASE_URL is not set"),
        ("mysql://app@127.0.0.1/host", "postgresql://"),
        ("127.0.0.1:5432/host", "postgresql://"),
        ("postgresql://app@127.0.0.1:5432", "names no database"),
        ("postgresql://app@127.0.0.1:port/host", "DATABASE_URL can't be read"),
        ("postgresql://app@[::1/host", "DATABASE_URL can't be read"),
        ("postgresql://app@127.0.0.1/host?no_such=1", "no_such"),
        ("postgresql://app@127.0.0.1/host?schema=a&options", "DATABASE_URL"),
        ("postgresql://app@127.0.0.1/\udcff", "DATABASE_URL"),
    ],
)
def test_a_malformed_database_url_is_refused(tool: Backfill, url: str, says: str) -> None:
    done = tool.set(DATABASE_URL=url)("run")

    assert_refused(done)
    assert says in done.stderr


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1", "127.0.0.1:6379", "redis://", "redis://127.0.0.1:port/0", "redis://127.0.0.1/abc", "unix://"],
)
def test_a_malformed_redis_url_is_refused(tool: Backfill, url: str) -> None:
    done = tool.set(REDIS_URL=url)("run", "--apply")

    assert_refused(done)
    assert "REDIS_URL" in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:Xq7kZw9p@127.0.0.1:1/host",
        "postgresql://app:Xq7kZw9p@no-such-host.invalid/host",
        "postgresql://app:Xq7kZw9p@127.0.0.1:99999/host",
    ],
    ids=["nobody listens", "no such host", "no such port"],
)
def test_an_unreachable_database_is_reported_with_its_address(tool: Backfill, url: str) -> None:
    done = tool.set(DATABASE_URL=url)("run", "--apply")

    assert_refused(done, status=1)
    assert "PostgreSQL can't be reached (host on " in done.stderr
    assert "Check DATABASE_URL" in done.stderr
    assert "Xq7kZw9p" not in done.stderr


def test_a_wrong_database_password_is_reported(tool: Backfill, host: Host) -> None:
    parts = urlsplit(host.url)
    url = parts._replace(netloc=f"{parts.username}:Xq7kZw9p@{parts.hostname}:{parts.port}").geturl()

    done = tool.set(DATABASE_URL=url)("run")

    assert_refused(done, status=1)
    assert "password authentication failed" in done.stderr
    assert "Xq7kZw9p" not in done.stderr


def test_a_missing_database_is_reported(tool: Backfill, host: Host) -> None:
    done = tool.set(DATABASE_URL=urlsplit(host.url)._replace(path="/no_such_database").geturl())("run")

    assert_refused(done, status=1)
    assert "no_such_database" in done.stderr


def test_an_unreachable_redis_is_reported_before_any_write(tool: Backfill) -> None:
    done = tool.set(REDIS_URL="redis://:Xq7kZw9p@127.0.0.1:1/0")("run", "--apply")

    assert_refused(done, status=1)
    assert "Redis can't be reached (redis://:***@127.0.0.1:1/0)" in done.stderr
    assert "Xq7kZw9p" not in done.stderr


def test_a_missing_redis_database_is_reported(tool: Backfill) -> None:
    url = urlsplit(tool.environment["REDIS_URL"])._replace(path="/9999").geturl()

    done = tool.set(REDIS_URL=url)("run", "--apply")

    assert_refused(done, status=1)
    assert "Check REDIS_URL" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("BACKFILL_LANES", "0", "from 1 to 64"),
        ("BACKFILL_LANES", "65", "from 1 to 64"),
        ("BACKFILL_LANES", "two", "from 1 to 64"),
        ("BACKFILL_LANES", "\u0664", "from 1 to 64"),
        ("BACKFILL_RATE_LIMIT", "fast", "20/s"),
        ("BACKFILL_RATE_LIMIT", "0/s", "20/s"),
        ("BACKFILL_VISIBILITY_TIMEOUT", "59", "from 60"),
        ("BACKFILL_LOCK_TIMEOUT_MS", "-1", "from 1"),
        ("BACKFILL_QUEUE", "two words", "is not a name"),
        ("BACKFILL_LANE", "4", "BACKFILL_LANES"),
        ("BACKFILL_RATELIMIT", "4", "BACKFILL_RATE_LIMIT"),
    ],
    ids=str,
)
def test_an_invalid_setting_is_refused(tool: Backfill, variable: str, value: str, says: str) -> None:
    done = tool.set(**{variable: value})("run")

    assert_refused(done)
    assert variable in done.stderr
    assert says in done.stderr


# ---------------------------------------------------------------- the database's contents


def test_a_database_without_the_host_s_tables_is_refused(tool: Backfill, host: Host, empty_database: str) -> None:
    done = tool.set(DATABASE_URL=empty_database)("run", "--apply")

    assert_refused(done, status=1)
    assert 'there is no table "public"."Client"' in done.stderr
    assert not Host(empty_database, host.sample).has_ledger()


def test_a_missing_schema_is_refused(tool: Backfill, host: Host) -> None:
    done = tool.set(DATABASE_URL=f"{host.url}?schema=no_such")("run")

    assert_refused(done, status=1)
    assert '"no_such"' in done.stderr


@pytest.fixture(scope="module")
def make_role(host: Host) -> Iterator[Callable[..., str]]:
    """Make roles with only the given privileges, and return the database's URL for each."""
    made: list[sql.Identifier] = []

    def make(*grants: str) -> str:
        role = f"role_{secrets.token_hex(4)}"
        made.append(sql.Identifier(role))
        with psycopg.connect(host.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'Xq7kZw9p'").format(made[-1]))
            for grant in grants:
                connection.execute(sql.SQL(f"GRANT {grant} TO {{}}").format(made[-1]))
        parts = urlsplit(host.url)
        return parts._replace(netloc=f"{role}:Xq7kZw9p@{parts.hostname}:{parts.port}").geturl()

    yield make
    with psycopg.connect(host.url, autocommit=True) as connection:
        for role in made:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))


READ = "SELECT ON ALL TABLES IN SCHEMA public"
WRITE = "SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public"
LEDGER = "USAGE ON SCHEMA backfill"
LOOK = "SELECT ON ALL TABLES IN SCHEMA backfill"


@pytest.mark.parametrize(
    ("grants", "arguments", "missing"),
    [
        ((), ["run"], 'GRANT SELECT ON "public"."Client"'),
        ((READ,), ["run", "--apply"], 'GRANT SELECT, UPDATE ON "public"."Lead"'),
        ((WRITE,), ["run", "--apply"], "GRANT USAGE ON SCHEMA backfill TO role_"),
        ((), ["status"], "GRANT USAGE ON SCHEMA backfill TO role_"),
        ((LEDGER,), ["status"], "ON ALL TABLES IN SCHEMA backfill TO role_"),
        ((WRITE, LEDGER, LOOK), ["run", "--apply"], "ON ALL TABLES IN SCHEMA backfill"),
        ((WRITE, LEDGER, LOOK), ["run", "--resume"], "ON ALL TABLES IN SCHEMA backfill"),
    ],
    ids=[
        "reading the host",
        "writing the host",
        "the ledger",
        "status",
        "the ledger's tables",
        "writing the ledger",
        "writing the ledger to resume",
    ],
)
def test_a_missing_privilege_is_named(
    tool: Backfill, make_role: Callable[..., str], grants: tuple[str, ...], arguments: list[str], missing: str
) -> None:
    done = tool.set(DATABASE_URL=make_role(*grants))(*arguments)

    assert_refused(done, status=1)
    assert missing in done.stderr


def test_a_host_schema_without_usage_privilege_is_named(
    tool: Backfill, host: Host, make_role: Callable[..., str]
) -> None:
    host.execute("CREATE SCHEMA IF NOT EXISTS locked")

    done = tool.set(DATABASE_URL=f"{make_role()}?schema=locked")("run")

    assert_refused(done, status=1)
    assert 'GRANT USAGE ON SCHEMA "locked" TO role_' in done.stderr


def test_a_role_without_create_privilege_is_told_how_to_create_the_ledger(
    tool: Backfill, host: Host, make_role: Callable[..., str], bare_host: str
) -> None:
    role = urlsplit(make_role()).netloc
    here = Host(bare_host, host.sample)
    here.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role.split(':')[0]}")

    done = tool.set(DATABASE_URL=urlsplit(bare_host)._replace(netloc=role).geturl())("run", "--apply")

    here.execute(f"DROP OWNED BY {role.split(':')[0]}")
    assert_refused(done, status=1)
    assert "backfill init --sql" in done.stderr
    assert not here.has_ledger()


@pytest.mark.parametrize("arguments", [["run", "--apply"], ["run", "--resume"], ["init"], ["status"]], ids=" ".join)
def test_a_newer_ledger_is_refused(tool: Backfill, host: Host, arguments: list[str]) -> None:
    host.execute("INSERT INTO backfill.migration (version) VALUES (99)")

    done = tool(*arguments)

    host.execute("DELETE FROM backfill.migration WHERE version = 99")
    assert_refused(done, status=1)
    assert "the ledger is at version 99" in done.stderr


# ---------------------------------------------------------------- checkpoint files

PARAMETERS: dict[str, Any] = {
    "backfill": "lead-scoring",
    "limit": 20,
    "lanes": 1,
    "cursor": None,
    "page_delay_ms": 0,
    "jobs_per_minute": None,
    "max_pending": None,
    "max_jobs": None,
    "max_live_wait": 0,
    "target_page_ms": 0,
    "cost_per_job": None,
    "client_ids": None,
    "rescore_all": False,
    "delay_ms": 0,
}
LANE: dict[str, Any] = {
    "number": 1,
    "lower": None,
    "upper": "z",
    "cursor": None,
    "page": 0,
    "state": "running",
    "counts": {},
}
CHECKPOINT: dict[str, Any] = {
    "version": 2,
    "run_id": "250101-000000-abcd",
    "state": "running",
    "parameters": PARAMETERS,
    "ordinal": 0,
    "counts": {},
    "lanes": [LANE],
    "written_at": "2025-01-01T00:00:00.000+00:00",
}
OLD: dict[str, Any] = {"version": 1, "cursor": "lead-1", "runAtIndex": 0, "totals": {}}


def without(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != name}


def test_a_valid_checkpoint_is_accepted(steady: Backfill, make_database: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(CHECKPOINT))
    command = Backfill(tmp_path, steady.environment).set(DATABASE_URL=make_host(make_database(), 50).url)

    done = command("run", "--resume", "--state-file", FILE, "--detach")

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "content",
    sampled(
        [
            "",
            "{",
            "[]",
            "null",
            "\ufeff{}",
            "[" * 100_000,
            "{}",
            {**OLD, "version": 3},
            {**OLD, "version": True},
            {**OLD, "version": 1.0},
            {**OLD, "version": "1"},
            without(OLD, "cursor"),
            without(OLD, "runAtIndex"),
            {**OLD, "cursor": 7},
            {**OLD, "cursor": ""},
            {**OLD, "cursor": "a\x00b"},
            {**OLD, "runAtIndex": -1},
            {**OLD, "runAtIndex": 1.5},
            {**OLD, "runAtIndex": 2**63},
            without(CHECKPOINT, "lanes"),
            without(CHECKPOINT, "run_id"),
            {**CHECKPOINT, "lanes": {}},
            {**CHECKPOINT, "lanes": [7]},
            {**CHECKPOINT, "lanes": [without(LANE, "upper")]},
            {**CHECKPOINT, "lanes": [{**LANE, "state": "resting"}]},
            {**CHECKPOINT, "ordinal": "many"},
            {**CHECKPOINT, "parameters": []},
            {**CHECKPOINT, "parameters": without(PARAMETERS, "rescore_all")},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "surplus": 1}},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "backfill": "another"}},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "limit": 0}},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "limit": 10_001}},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "limit": True}},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "lanes": 65}},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "page_delay_ms": 600_001}},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "delay_ms": 86_400_001}},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "client_ids": "all"}},
            {**CHECKPOINT, "parameters": {**PARAMETERS, "rescore_all": "yes"}},
        ],
        every=6,
    ),
)
def test_an_invalid_checkpoint_is_refused(tool: Backfill, content: str | dict[str, Any]) -> None:
    file = tool.directory / FILE
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    before = file.read_bytes()

    done = tool("run", "--resume", "--apply", "--detach", "--state-file", FILE)

    assert_refused(done)
    assert FILE in done.stderr
    assert file.read_bytes() == before


def test_a_binary_checkpoint_is_refused(tool: Backfill) -> None:
    (tool.directory / FILE).write_bytes(b"\xff\xfe\x00")

    assert_refused(tool("run", "--resume", "--apply", "--state-file", FILE))


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
@pytest.mark.parametrize("command", ["run", *long("config", "doctor")])
def test_a_bare_password_in_place_of_a_url_is_not_repeated(alone: Backfill, variable: str, command: str) -> None:
    for url in ("{}://Xq7kZw9p", "{}:///Xq7kZw9p", "{}:Xq7kZw9p"):
        scheme = "postgresql" if variable == "DATABASE_URL" else "redis"
        broken = alone.set(**{variable: url.format(scheme), "PGHOST": "127.0.0.1", "PGPORT": "1"})

        done = broken(*([command, "--apply"] if command == "run" else [command]))

        assert "xq7kzw9p" not in (done.stdout + done.stderr).lower()
