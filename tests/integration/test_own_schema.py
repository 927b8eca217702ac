"""A whole run on the host's real schema."""

import os
from pathlib import Path

import pytest
from integration.site import CLASSES, Site

from sandbox.host.sample import Sample, create_schema, fill

ROOT = Path(__file__).parents[2]
DEFINITION = ROOT / os.environ.get("HOST_SCHEMA", "../shared/host/schema.sql")


@pytest.mark.skipif(not DEFINITION.is_file(), reason=f"the host's own schema is not here: no file {DEFINITION}")
class TestHostsOwnSchema:
    @pytest.fixture
    def sample(self, real_site: Site) -> Sample:
        return fill(real_site.host.connection, 2_000)

    @pytest.fixture
    def real_site(self, empty_database: str, shared_site: Site) -> Site:
        real = Site(empty_database, shared_site.redis_url)
        create_schema(real.host.connection, definition=DEFINITION)
        real.migrate()
        return real

    def test_whole_run_is_done_and_verified(self, real_site: Site, sample: Sample) -> None:
        counted = real_site.dry_run(limit=2_000).counts

        run = real_site.whole_run(limit=90, lanes=3)

        expected = {name: getattr(sample, name) for name in CLASSES}
        assert {name: counted[name] for name in CLASSES} == expected
        assert {name: run.counts[name] for name in CLASSES} == expected
        assert run.state == "complete"
        assert real_site.verify(run.id).clean
        real_site.close()
