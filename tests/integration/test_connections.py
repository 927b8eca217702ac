"""A process's database connection: after any interruption, the next transaction starts clean."""

from collections.abc import Iterator

import pytest
from integration.site import Site
from sqlalchemy import event


class CutShort(BaseException):
    """An interruption at any point, like a time limit or a signal."""


@pytest.fixture
def commits_are_cut_short(site: Site) -> Iterator[None]:
    def cut(_connection: object) -> None:
        raise CutShort

    event.listen(site.engine, "commit", cut)
    yield
    event.remove(site.engine, "commit", cut)


@pytest.mark.usefixtures("commits_are_cut_short")
def test_transaction_interrupted_during_commit_is_rolled_back(site: Site) -> None:
    with pytest.raises(CutShort), site.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE backfill.run")

    query = "SELECT count(*) FROM pg_locks WHERE relation = 'backfill.run'::regclass AND mode = 'AccessExclusiveLock'"
    assert site.host.values(query) == [0]
