"""Fixtures of the integration tests: sites to work on."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from integration.site import Site

from sandbox.servers import Servers


def _new_site(url: str, server: Servers) -> Iterator[Site]:
    """A site with its tables, until a fixture ends."""
    made = Site(url, server.redis_url)
    made.create()
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """What `site` is made of."""
    yield from _new_site(make_database(), server)


@pytest.fixture
def site(shared_site: Site) -> Site:
    """A host with one workspace and no leads, and an empty ledger. Its tables stay as they are."""
    shared_site.restore()
    return shared_site


@pytest.fixture(scope="session")
def shared_english_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """What `english_site` is made of."""
    yield from _new_site(make_database(locale="en_US.UTF-8"), server)


@pytest.fixture
def english_site(shared_english_site: Site) -> Site:
    """The same in a database that sorts text as readers of English do."""
    shared_english_site.restore()
    return shared_english_site


@pytest.fixture
def own_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """The same in a database of the test's own, with tables that it may alter."""
    own = Site(make_database(), server.redis_url)
    own.create()
    own.restore()
    yield own
    own.close()


@pytest.fixture(scope="session")
def shared_strict_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """What `strict_site` is made of."""
    yield from _new_site(make_database(), server)


@pytest.fixture
def strict_site(shared_strict_site: Site) -> Site:
    """The same with a trigger that refuses the jobs of leads of the test's choice: see `Host.refuse_jobs_of`."""
    shared_strict_site.restore()
    shared_strict_site.host.refuse_jobs_of()
    return shared_strict_site


@pytest.fixture
def sample_site(host: str, server: Servers) -> Iterator[Site]:
    """A host of 2,000 leads of every kind, and an empty ledger."""
    filled = Site(host, server.redis_url)
    filled.migrate()
    yield filled
    filled.close()


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Does something beside the test."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield pool
