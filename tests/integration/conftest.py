"""Fixtures of the integration tests: host databases with the engine connected."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from integration.site import Site

from sandbox.servers import Servers


def _new_site(url: str, server: Servers) -> Iterator[Site]:
    """Yield a site with its tables."""
    made = Site(url, server.redis_url)
    made.create()
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """Yield the database behind `site`, shared by the session."""
    yield from _new_site(make_database(), server)


@pytest.fixture
def site(shared_site: Site) -> Site:
    """Return a host with one workspace, no leads and an empty ledger. Tests must not alter its tables."""
    shared_site.restore()
    return shared_site


@pytest.fixture(scope="session")
def shared_english_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """Yield the database behind `english_site`, shared by the session."""
    yield from _new_site(make_database(locale="en_US.UTF-8"), server)


@pytest.fixture
def english_site(shared_english_site: Site) -> Site:
    """Return a host like `site`, in a database with an English collation."""
    shared_english_site.restore()
    return shared_english_site


@pytest.fixture
def own_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """Yield a host like `site`, in a database of the test's own, whose tables it may alter."""
    own = Site(make_database(), server.redis_url)
    own.create()
    own.restore()
    yield own
    own.close()


@pytest.fixture(scope="session")
def shared_strict_site(make_database: Callable[..., str], server: Servers) -> Iterator[Site]:
    """Yield the database behind `strict_site`, shared by the session."""
    yield from _new_site(make_database(), server)


@pytest.fixture
def strict_site(shared_strict_site: Site) -> Site:
    """Return a host like `site`, with a trigger that refuses jobs of chosen leads: see `Host.refuse_jobs_of`."""
    shared_strict_site.restore()
    shared_strict_site.host.refuse_jobs_of()
    return shared_strict_site


@pytest.fixture
def sample_site(host: str, server: Servers) -> Iterator[Site]:
    """Yield a host with 2,000 leads of every kind and an empty ledger."""
    filled = Site(host, server.redis_url)
    filled.migrate()
    yield filled
    filled.close()


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread pool that runs something alongside the test."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield pool
