"""Row-level security: no command says "complete" or "clean" about rows hidden from its role."""

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from acceptance.commands import assert_refused, empty
from acceptance.host import Host
from harness import Backfill, Worker, wait_for

from sandbox.servers import Redis

GRANTS = """
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role};
GRANT USAGE ON SCHEMA backfill TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA backfill TO {role};
"""

COMMANDS = (
    ("run",),
    ("run", "--apply", "--detach"),
    ("run", "message-rollups", "--apply", "--detach"),
    ("run", "--resume", "--detach"),
    ("resume", "RUN"),
    ("retry", "RUN"),
    ("verify", "RUN"),
)


def flat(text: str) -> str:
    """Return each line unwrapped."""
    return text.replace("\n       ", " ")


@pytest.fixture
def role(inhabited: Host) -> Iterator[str]:
    """A role that may log in. Row-level security is disabled on the host's tables after the test."""
    name = f"role_{secrets.token_hex(4)}"
    inhabited.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'Xq7kZw9p'")
    yield name
    for table in ("Client", "Lead", "Message", "BackgroundJob"):
        inhabited.execute(f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY')
    inhabited.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def weak(backfill: Backfill, role: str, inhabited: Host) -> Backfill:
    """The command as that role, with every documented grant."""
    backfill("init")
    inhabited.execute(GRANTS.format(role=role))
    parts = urlsplit(backfill.database_url)
    return backfill.set(DATABASE_URL=parts._replace(netloc=f"{role}:Xq7kZw9p@{parts.hostname}:{parts.port}").geturl())


@pytest.fixture
def run(request: pytest.FixtureRequest, weak: Backfill) -> str:
    """The id of a run that is paused after its first page."""
    request.getfixturevalue("worker")
    run: str = weak.json("run", "--apply", "--single-batch", "--limit", "50", status=4)["run_id"]
    return run


class TestHostTables:
    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_hidden_rows_are_refused_with_the_statement_to_fix_it(
        self, weak: Backfill, run: str, role: str, inhabited: Host, command: tuple[str, ...]
    ) -> None:
        inhabited.execute('ALTER TABLE "Lead" ENABLE ROW LEVEL SECURITY')
        before = inhabited.contents()

        done = weak(*(run if word == "RUN" else word for word in command))

        assert_refused(done, status=1)
        assert 'row-level security hides rows of "public"."Lead" from this role' in done.stderr
        assert done.stderr.endswith(f"have a DBA run ALTER ROLE {role} BYPASSRLS\n")
        assert inhabited.contents() == before

    @pytest.mark.usefixtures("worker")
    @pytest.mark.parametrize("table", ["Client", "Lead", "Message", "BackgroundJob"])
    def test_doctor_names_the_statement_that_makes_a_run_work(
        self, weak: Backfill, role: str, inhabited: Host, table: str
    ) -> None:
        inhabited.execute(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')

        found = weak("doctor")

        assert found.returncode == 1
        assert f'row-level security hides rows of "public"."{table}"' in flat(found.stdout)
        assert f"Have a DBA run ALTER ROLE {role} BYPASSRLS" in flat(found.stdout)
        inhabited.execute(f"ALTER ROLE {role} BYPASSRLS")
        assert weak("doctor").returncode == 0
        assert weak.json("run", "--apply")["counts"]["read"] > 0

    def test_enabling_it_mid_run_stalls_the_run_until_it_is_fixed(
        self, weak: Backfill, deserted_broker: Redis, role: str, inhabited: Host
    ) -> None:
        empty(deserted_broker)
        weak = weak.set(REDIS_URL=deserted_broker.url)
        worker = Worker.start(weak, concurrency=1)
        try:
            started = weak.json("run", "--apply", "--detach", "--page-delay-ms", "500", "--limit", "50", "--lanes", "1")
            run = started["run_id"]
            inhabited.wait_for_pages(1)

            inhabited.execute('ALTER TABLE "Lead" ENABLE ROW LEVEL SECURITY')

            def reason() -> str:
                return str(weak.json("status", run)["lanes"][0]["reason"])

            cure = f"ALTER ROLE {role} BYPASSRLS"
            wait_for(lambda: cure in reason(), what="the lane to say why it stands")
            assert weak.json("status", run)["state"] == "running"
            inhabited.execute(cure)
            assert weak.json("watch", run, timeout=300)["state"] == "complete"
            assert weak("verify", run).returncode == 0
        finally:
            worker.stop()


class TestLedger:
    @pytest.mark.parametrize("table", ["run", "lane", "page", "migration"])
    def test_a_hidden_ledger_is_not_reported_as_missing(
        self, weak: Backfill, run: str, role: str, inhabited: Host, table: str
    ) -> None:
        inhabited.execute(f"ALTER TABLE backfill.{table} ENABLE ROW LEVEL SECURITY")

        for command in (*COMMANDS[1:], ("init",), ("status",), ("watch",), ("runs",), ("events",)):
            done = weak(*(run if word == "RUN" else word for word in command))

            assert_refused(done, status=1)
            assert f"row-level security hides rows of the ledger from this role ({table})" in done.stderr
            assert done.stderr.endswith(f"have a DBA run ALTER ROLE {role} BYPASSRLS\n")
        found = weak("doctor")
        assert found.returncode == 1
        assert f"WRONG  row-level security hides rows of the ledger from this role ({table})" in flat(found.stdout)
        assert "does not exist yet" not in flat(found.stdout)
