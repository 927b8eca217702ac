"""Scoring on other hosts: the real schema, another name of it, and a transaction pooler in front."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.scoring import Desk, Obedient
from integration.site import Site
from pgbouncer import pgbouncer

from backfill_tasks.engine.database import connect, parse_url
from backfill_tasks.scoring.parameters import Parameters
from backfill_tasks.scoring.work import Work
from sandbox.host.sample import create_schema
from sandbox.servers import Servers

ROOT = Path(__file__).parents[2]
DEFINITION = ROOT / os.environ.get("HOST_SCHEMA", "../shared/host/schema.sql")


@pytest.fixture
def own_desk(own_site: Site) -> Desk:
    return Desk(own_site, Obedient())


def whole_session(desk: Desk, url: str, schema: str) -> dict[str, object]:
    """Do a whole session through another address, and return the overall scores."""
    engine = connect(parse_url(url))
    work = Work(engine, schema, {"obedient": desk.scorer}, desk._send)  # noqa: SLF001
    work.start(Parameters("obedient", batch=4, parallel=1, until_done=True))
    while desk.waiting:
        work.step(desk.waiting.pop(0)[0])
    work.watch_over(list)
    engine.dispose()
    return {
        row["id"]: row["overallScore"]
        for row in desk.site.host.rows(f'SELECT id, "overallScore" FROM "{schema}"."Lead"')
    }


def test_the_host_s_tables_may_be_in_a_schema_of_another_name(own_desk: Desk) -> None:
    own_desk.add("lead-1", "lead-2")
    own_desk.site.host.do('ALTER SCHEMA public RENAME TO "The Host"')
    own_desk.site.host.do("CREATE SCHEMA public")

    assert whole_session(own_desk, own_desk.site.url, "The Host") == {"lead-1": 3, "lead-2": 3}


def test_everything_works_through_a_transaction_pooler(own_desk: Desk, tmp_path: Path) -> None:
    own_desk.add(*(f"lead-{number}" for number in range(10)))

    with pgbouncer(own_desk.site.url, tmp_path, mode="transaction", size=2) as url:
        assert set(whole_session(own_desk, f"{url}?pgbouncer=true", "public").values()) == {3}


@pytest.fixture
def real_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    made = Site(make_database(), server.redis_url)
    create_schema(made.host.connection, definition=DEFINITION)
    made.migrate()
    made.host.add_client("client-1")
    yield made
    made.close()


@pytest.mark.skipif(not DEFINITION.is_file(), reason=f"the host's own schema is not here: no file {DEFINITION}")
def test_everything_works_on_the_host_s_own_schema(real_site: Site) -> None:
    desk = Desk(real_site, Obedient())
    desk.add("lead-1", "lead-2")

    assert desk.until_done().written.scored == 2
