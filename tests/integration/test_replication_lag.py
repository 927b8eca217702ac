"""With a real standby, pages wait while it lags and continue once it has caught up."""

from collections.abc import Iterator

import pytest
from harness import wait_for
from integration.standby import NoBaseBackupError, Standby
from sqlalchemy import Engine, text

from backfill_tasks.engine.admission.indicators import Reading, ReplicationLag
from backfill_tasks.engine.admission.pressure import Pressure
from backfill_tasks.engine.database import connect, parse_url
from sandbox.servers import Postgres


@pytest.fixture
def primary() -> Iterator[Postgres]:
    """Yield a server of the test's own, because no other test may have a standby."""
    with Postgres() as started:
        yield started


@pytest.fixture
def standby(primary: Postgres) -> Iterator[Standby]:
    try:
        made = Standby(primary).start()
    except NoBaseBackupError as error:
        pytest.skip(str(error))
    yield made
    made.stop()


@pytest.fixture
def engine(primary: Postgres) -> Iterator[Engine]:
    made = connect(parse_url(primary.url))
    yield made
    made.dispose()


def lag(engine: Engine) -> Reading:
    with engine.begin() as connection:
        return Pressure((), 0).readings(connection, [ReplicationLag(0.5)])[0]


def write(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS written (at timestamptz DEFAULT now())"))
        connection.execute(text("INSERT INTO written DEFAULT VALUES"))


def test_pages_wait_for_a_lagging_standby_until_it_has_caught_up(engine: Engine, standby: Standby) -> None:
    wait_for(lambda: lag(engine).value != "no standby", what="the standby to follow")
    assert lag(engine).answer == "go"

    standby.pause_replay()
    write(engine)
    wait_for(lambda: lag(engine).answer == "wait", what="the lag to be seen")
    behind = lag(engine)
    assert behind.reason == f"a standby is {behind.value} behind, over 0.5 s"

    standby.resume_replay()
    wait_for(lambda: lag(engine).answer == "go", what="the standby to have caught up")
