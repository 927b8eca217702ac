"""`backfill run` without --apply counts everything and writes nothing."""

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from acceptance.commands import redis_contents
from acceptance.host import CLASSES, Host
from harness import Backfill, Worker
from psycopg import sql

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def reader(inhabited: Host) -> Iterator[str]:
    """The host database's URL for a role that may only read the host's tables."""
    role, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(inhabited.url, autocommit=True) as connection:
        name = sql.Identifier(role)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(password)))
        connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(name))
        parts = urlsplit(inhabited.url)
        yield parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}").geturl()
        connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


def test_it_writes_nothing_at_all(alone: Backfill, inhabited: Host) -> None:
    before = inhabited.contents()

    done = alone("run", "--dry-run", "--limit", "100")

    assert done.returncode == 0, done.stderr
    assert inhabited.contents() == before
    assert not inhabited.has_ledger()
    assert redis_contents(alone) == {}
    assert list(alone.directory.iterdir()) == []


def test_it_works_without_redis(alone: Backfill, inhabited: Host) -> None:
    counted = alone.set(REDIS_URL=NOWHERE).json("run")

    assert counted["counts"]["read"] == inhabited.sample.eligible


def test_it_works_for_a_role_that_may_only_read(alone: Backfill, inhabited: Host, reader: str) -> None:
    counted = alone.set(DATABASE_URL=reader).json("run")

    assert counted["counts"]["read"] == inhabited.sample.eligible


def test_it_leaves_the_ledger_of_earlier_runs_as_it_is(alone: Backfill, inhabited: Host) -> None:
    alone("run", "--apply", "--detach")
    before = inhabited.contents()

    alone.json("run")

    assert inhabited.contents() == before


def test_it_counts_an_empty_host(alone: Backfill, bare_host: str) -> None:
    counted = alone.set(DATABASE_URL=bare_host).json("run")

    assert (counted["state"], counted["counts"]["read"], counted["lanes"]) == ("complete", 0, [])


def test_it_says_that_nothing_was_changed_and_how_to_do_it(alone: Backfill) -> None:
    done = alone("run")

    assert done.stdout.splitlines()[-1] == "Nothing was changed. To apply it, add --apply to the same command."


def test_it_leaves_the_checkpoint_file_as_it_is_and_says_so(alone: Backfill) -> None:
    file = alone.directory / "checkpoint.json"
    file.write_text("mine")

    done = alone("run", "--state-file", "checkpoint.json")

    assert file.read_text() == "mine"
    assert "A dry run writes no checkpoint" in done.stderr


def test_the_wet_run_does_what_it_counted(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    workspaces = [option for workspace in inhabited.workspaces()[:3] for option in ("--client-id", workspace)]
    options = ("--rescore-all", "--cursor", inhabited.middle(), "--lanes", "5", "--limit", "30", *workspaces)
    counted = backfill.json("run", *options)

    done = backfill.json("run", "--apply", *options)

    names = ("read", *CLASSES)
    assert {name: done["counts"][name] for name in names} == {name: counted["counts"][name] for name in names}
    assert done["pages"] == counted["pages"]
    assert [lane["bounds"] for lane in done["lanes"]] == [lane["bounds"] for lane in counted["lanes"]]
