import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from harness import wait_for

from sandbox.locales import ENGLISH, install_locale, make_likeness
from sandbox.servers import Postgres, Redis, ServerError, servers

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    "B",
    "a",
    "A",
    "ab",
    "Zo\u00eb",
    "zoe",
    "\u00e9",
    "e",
    "F",
    "\u00d1u",
    "nu",
    "lead_2",
    "lead-10",
    "LEAD3",
    "9",
    "10",
]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand PostgreSQL to another user")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def test_servers_answer_while_up_and_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)

    with servers() as up:
        assert up.postgres
        assert up.redis
        with psycopg.connect(up.database_url) as connection:
            answer = connection.execute("SELECT current_setting('server_version_num')::int / 10000").fetchone()
        with redis.Redis.from_url(up.redis_url) as client:
            policy = client.config_get("maxmemory-policy")
        pids = [up.postgres.pid, up.redis.pid]
        homes = [up.postgres.home, up.redis.home]
        ports = [up.postgres.port, up.redis.port]

    assert answer == (18,)
    assert policy == {"maxmemory-policy": "noeviction"}
    assert not any(alive(pid) for pid in pids)
    assert not any(home.exists() for home in homes)
    assert not any(accepts(port) for port in ports)


def test_postgres_keeps_its_port_and_committed_data_through_a_crash(postgres: Postgres) -> None:
    url, pid = postgres.url, postgres.pid
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    open_connection = psycopg.connect(url)

    postgres.kill()
    down = accepts(postgres.port)
    postgres.restart()

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    with pytest.raises(psycopg.OperationalError):
        open_connection.execute("SELECT 1")
    assert not down
    assert postgres.pid != pid
    assert not alive(pid)


def test_redis_keeps_its_keys_through_a_crash_only_with_append_only() -> None:
    awkward = "pass word/@"
    with Redis(append_only=True, password=awkward) as durable, Redis() as forgetful:
        clients = [redis.Redis.from_url(server.url) for server in (durable, forgetful)]
        for client in clients:
            client.set("cursor", "lead-7")

        for server in (durable, forgetful):
            server.kill()
            server.restart()

        assert [client.get("cursor") for client in clients] == [b"lead-7", None]


def test_a_callers_folder_keeps_the_data(tmp_path: Path) -> None:
    with Redis(tmp_path, append_only=True) as first, redis.Redis.from_url(first.url) as client:
        client.set("cursor", "lead-7")

    with Redis(tmp_path, append_only=True) as second, redis.Redis.from_url(second.url) as client:
        assert client.get("cursor") == b"lead-7"


@AS_ROOT
def test_a_folder_inaccessible_to_postgres_is_not_used(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with Postgres(closed) as server:
        home = server.home
        assert closed not in home.parents

    assert not home.exists()
    assert list(closed.iterdir()) == []


def test_a_database_is_a_copy_of_its_template(postgres: Postgres) -> None:
    with psycopg.connect(postgres.create_database("original")) as connection:
        connection.execute("CREATE TABLE filled AS SELECT 1 AS number")

    copy = postgres.create_database("copy", template="original")

    with psycopg.connect(copy) as connection:
        assert connection.execute("SELECT number FROM filled").fetchone() == (1,)
    postgres.drop_database("copy")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(copy)


@pytest.mark.parametrize(("locale", "expected"), [(None, ["B", "a"]), (ENGLISH, ["a", "B"])])
def test_a_database_sorts_by_code_point_or_by_its_locale(
    postgres: Postgres, locale: str | None, expected: list[str]
) -> None:
    url = postgres.create_database(f"sorted_{locale}", locale=locale)

    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT word FROM unnest(ARRAY['a', 'B']) AS word ORDER BY word").fetchall()

    assert [word for (word,) in rows] == expected


def test_the_substitute_locale_sorts_latin_like_the_real_one(tmp_path: Path) -> None:
    real, likeness = tmp_path / "real", tmp_path / "likeness"
    likeness.mkdir()
    make_likeness(likeness)
    install_locale(ENGLISH, real)

    real_order, likeness_order = (
        subprocess.run(
            ["sort"],
            input="\n".join(WORDS),
            env={"PATH": os.environ["PATH"], "LOCPATH": str(folder), "LC_ALL": ENGLISH},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split("\n")
        for folder in (real, likeness)
    )

    assert likeness_order == real_order
    assert likeness_order.index("a") < likeness_order.index("B")


@pytest.mark.parametrize("kind", [Postgres, Redis])
def test_a_taken_port_is_named_in_one_line(kind: type[Postgres | Redis]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(ServerError) as error:
            kind(port=port).start()

    assert f"port {port} is taken" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_setting_refused_by_postgres_is_named_in_one_line() -> None:
    with pytest.raises(ServerError) as error:
        Postgres(settings={"max_connections": "many"}).start()

    assert "max_connections" in str(error.value)
    assert "\n" not in str(error.value)


def test_servers_of_the_environment_override_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody@db.example/app")
    monkeypatch.setenv("REDIS_URL", "redis://broker.example/1")

    with servers() as given:
        assert (given.database_url, given.redis_url) == (
            "postgresql://somebody@db.example/app",
            "redis://broker.example/1",
        )
        assert given.postgres is None
        assert given.redis is None


def test_a_partial_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody@db.example/app")
    monkeypatch.delenv("REDIS_URL", raising=False)

    with pytest.raises(ServerError, match="REDIS_URL isn't"), servers():
        pass


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_servers_end_with_the_process_that_started_them(how: signal.Signals) -> None:
    program = """
import signal, sys
from sandbox.servers import Postgres, Redis
with Redis() as broker, Postgres() as postgres:
    print(broker.port, postgres.port, broker.home, postgres.home, flush=True)
    signal.pause()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout
        broker, postgres, *homes = parent.stdout.readline().split()
        ports = [int(broker), int(postgres)]
        assert all(accepts(port) for port in ports)
        parent.send_signal(how)
        parent.wait(timeout=60)

    wait_for(lambda: not any(accepts(port) for port in ports), what="both servers are gone")
    wait_for(lambda: not any(Path(home).exists() for home in homes), what="their folders are gone")
