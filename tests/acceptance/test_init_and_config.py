"""`backfill init` and `backfill config`, and the sources of settings."""

import psycopg
import pytest
from acceptance.commands import assert_refused
from acceptance.host import Host
from harness import PATIENCE, Backfill

NAMES = {
    "DATABASE_URL",
    "REDIS_URL",
    "BACKFILL_RATE_LIMIT",
    "BACKFILL_LANES",
    "BACKFILL_QUEUE",
}


def test_init_creates_the_ledger_and_touches_nothing_of_the_host(alone: Backfill, inhabited: Host) -> None:
    before = inhabited.contents()

    done = alone("init")

    after = inhabited.contents()
    assert done.returncode == 0
    assert {name for name in after if name.startswith("backfill.")} > {"backfill.run", "backfill.lane", "backfill.page"}
    assert {name: sum_ for name, sum_ in after.items() if not name.startswith("backfill.")} == before


def test_init_can_be_repeated(alone: Backfill, inhabited: Host) -> None:
    alone("init")
    before = inhabited.contents()

    done = alone("init")

    assert done.returncode == 0
    assert "is already at version" in done.stdout
    assert inhabited.contents() == before


def test_init_needs_no_redis(alone: Backfill, inhabited: Host) -> None:
    assert alone.set(REDIS_URL="redis://127.0.0.1:1/0")("init").returncode == 0
    assert inhabited.has_ledger()


def test_init_sql_prints_and_changes_nothing(alone: Backfill, inhabited: Host) -> None:
    done = alone("init", "--sql")

    assert "CREATE SCHEMA IF NOT EXISTS backfill" in done.stdout
    assert not inhabited.has_ledger()


def test_init_sql_needs_no_database(alone: Backfill) -> None:
    assert alone.set(DATABASE_URL="")("init", "--sql").returncode == 0


def test_the_sql_of_init_makes_the_ledger_and_can_be_run_again(alone: Backfill, inhabited: Host) -> None:
    script = alone("init", "--sql").stdout

    inhabited.execute(script)
    inhabited.execute(script)

    assert "is already at version" in alone("init").stdout
    assert alone.json("run", "--apply", "--detach")["state"] == "running"


def test_the_sql_of_init_can_be_run_after_init(alone: Backfill, inhabited: Host) -> None:
    alone("init")
    before = inhabited.contents()

    inhabited.execute(alone("init", "--sql").stdout)

    assert inhabited.contents() == before


def test_the_first_run_makes_the_ledger_and_says_so(alone: Backfill, inhabited: Host) -> None:
    done = alone("run", "--apply", "--detach")

    assert "The ledger (schema backfill) is now at version" in done.stderr
    assert inhabited.has_ledger()


def test_config_lists_every_setting_with_its_source_and_meaning(alone: Backfill) -> None:
    done = alone.set(BACKFILL_LANES="5")("config")

    settings = {line.split(" = ")[0] for line in done.stdout.splitlines() if " = " in line}
    assert done.returncode == 0
    assert settings >= NAMES
    assert "BACKFILL_LANES = 5   (environment)\n    default of --lanes" in done.stdout
    assert "BACKFILL_RATE_LIMIT = none   (default)" in done.stdout


def test_config_masks_the_passwords(alone: Backfill) -> None:
    done = alone.set(
        DATABASE_URL="postgresql://app:Xq7kZw9p@db.example:5432/host?schema=public&password=Xq7kZw9p",
        REDIS_URL="redis://:Xq7kZw9p@cache.example:6379/3",
    )("config")

    assert "Xq7kZw9p" not in done.stdout + done.stderr
    assert "DATABASE_URL = postgresql://app:***@db.example:5432/host?***" in done.stdout
    assert "REDIS_URL = redis://:***@cache.example:6379/3" in done.stdout


def test_config_marks_what_is_wrong_and_lists_the_rest(alone: Backfill) -> None:
    done = alone.set(BACKFILL_LANES="many", BACKFILL_RATE_LIMIT="fast")("config")

    assert done.returncode == 2
    assert "WRONG: BACKFILL_LANES: 'many' is not a whole number from 1 to 64" in done.stdout
    assert done.stdout.count("WRONG") == 2
    assert "BACKFILL_QUEUE = backfill" in done.stdout


def test_config_needs_neither_database_nor_redis(alone: Backfill) -> None:
    done = alone.set(DATABASE_URL="", REDIS_URL="")("config")

    assert done.returncode == 0
    assert "DATABASE_URL = (not set)" in done.stdout


@pytest.mark.parametrize("name", ["DATABASE_URL", "BACKFILL_REPLICA_URL"])
def test_config_marks_a_database_url_that_can_t_be_read(alone: Backfill, name: str) -> None:
    done = alone.set(**{name: "mysql://app@db.example/host"})("config")

    assert done.returncode == 2
    assert f"WRONG: {name} can't be read" in done.stdout


def test_settings_come_from_a_file_in_the_working_directory(alone: Backfill, inhabited: Host) -> None:
    (alone.directory / ".env").write_text(f'DATABASE_URL="{inhabited.url}"\nBACKFILL_LANES=3\n')
    environment = {name: value for name, value in alone.environment.items() if name != "DATABASE_URL"}

    counted = Backfill(alone.directory, environment).json("run", "--limit", "100")

    assert (counted["counts"]["read"], len(counted["lanes"])) == (inhabited.sample.eligible, 3)


def test_the_environment_wins_over_the_file(alone: Backfill) -> None:
    (alone.directory / ".env").write_text("BACKFILL_LANES=3\n")

    assert "BACKFILL_LANES = 4   (environment)" in alone.set(BACKFILL_LANES="4")("config").stdout


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"BACKFILL_LANES=3\nname=\xff\xfe\n", "UTF-8"),
        (b"BACKFILL_LANES=3\nthis is no setting = 'at all\n", "line 2"),
    ],
    ids=["not UTF-8", "a line that can't be read"],
)
def test_a_file_that_can_t_be_read_is_refused(alone: Backfill, content: bytes, says: str) -> None:
    (alone.directory / ".env").write_bytes(content)

    done = alone("run")

    assert_refused(done)
    assert ".env" in done.stderr
    assert says in done.stderr


def test_a_ledger_that_two_make_at_once_is_made_once(alone: Backfill, inhabited: Host) -> None:
    first, second = alone.popen("init"), alone.popen("init")

    outputs = [first.communicate(timeout=PATIENCE), second.communicate(timeout=PATIENCE)]

    assert (first.returncode, second.returncode) == (0, 0), outputs
    with psycopg.connect(inhabited.url) as connection:
        assert connection.execute("SELECT count(*) FROM backfill.migration WHERE version = 1").fetchall() == [(1,)]
