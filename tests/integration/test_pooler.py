"""Detecting a pooler in front of PostgreSQL, with real servers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from integration.site import Site
from pgbouncer import pgbouncer
from vanishing import vanishing

from backfill_tasks.engine.database import connect, parse_url
from backfill_tasks.engine.pooler import between


@contextmanager
def traffic(url: str, clients: int = 3) -> Iterator[None]:
    """Run other clients' transactions while the block runs."""
    ended = threading.Event()

    def work() -> None:
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            while not ended.is_set():
                connection.execute("SELECT pg_sleep(0.001)")

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    yield
    ended.set()
    for thread in threads:
        thread.join()


def test_direct_connection_is_recognized(site: Site) -> None:
    assert between(parse_url(site.url)) == "nothing"


@pytest.mark.parametrize("size", [1, 5])
def test_transaction_pooler_is_recognized(site: Site, tmp_path: Path, size: int) -> None:
    with pgbouncer(site.url, tmp_path, mode="transaction", size=size) as url:
        assert between(parse_url(url)) == "a transaction pooler"


def test_session_pooler_is_recognized(site: Site, tmp_path: Path) -> None:
    with pgbouncer(site.url, tmp_path, mode="session") as url:
        assert between(parse_url(url)) == "a session pooler"


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_pooler_is_recognized_beside_other_clients(site: Site, tmp_path: Path, mode: str) -> None:
    with pgbouncer(site.url, tmp_path, mode=mode) as url, traffic(url):
        assert between(parse_url(url)) == f"a {mode} pooler"


def test_pooler_is_recognized_if_a_second_connection_never_opens(site: Site, tmp_path: Path) -> None:
    with pgbouncer(site.url, tmp_path, mode="session", size=1) as url:
        assert between(parse_url(url), patience=0.2) == "a pooler"


def test_blocked_first_connection_is_given_up(site: Site, tmp_path: Path) -> None:
    with (
        pgbouncer(site.url, tmp_path, mode="transaction", size=1) as url,
        psycopg.connect(url, prepare_threshold=None) as occupant,
    ):
        occupant.execute("SELECT 1")  # its transaction stays open
        with pytest.raises(psycopg.OperationalError, match="has not answered"):
            between(parse_url(url), patience=0.5)


def test_frozen_server_is_given_up(site: Site) -> None:
    with vanishing(f"{site.url}?connect_timeout=2") as (proxy, url):
        proxy.dead = True
        with pytest.raises(psycopg.OperationalError):
            between(parse_url(url), patience=0.5)


def test_pressure_can_be_measured_through_a_transaction_pooler(site: Site, tmp_path: Path) -> None:
    pressure = site.parts.pressure
    with pgbouncer(site.url, tmp_path, mode="transaction") as url, traffic(url):
        engine = connect(parse_url(f"{url}?pgbouncer=true"))
        with engine.begin() as connection:
            readings = pressure.readings(connection, pressure.indicators)

    assert "unknown" not in {each.answer for each in readings}
