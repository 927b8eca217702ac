"""How the chain handles a failed page, for each kind of error, and what the ledger records."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from integration.site import Row, Site, read_only

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.chain import Chain, SendError, Tries
from backfill_tasks.engine.model import PageMessage
from sandbox.servers import Redis

LOCK_TIMEOUT = "canceling statement due to lock timeout (55P03)"
MOST = 2


@pytest.fixture
def impatient(site: Site) -> Iterator[Site]:
    """Yield the site for a worker with a lock timeout of 50 ms and two retries per page."""
    made = site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="50", BACKFILL_PAGE_RETRIES=str(MOST))
    yield made
    made.close()


def started(site: Site, *leads: str) -> PageMessage:
    """Start a run of one lane and return its first message."""
    site.host.add_leads(*(leads or ("a", "b", "c")))
    site.start(limit=2)
    return site.waiting.pop(0)


def lane(site: Site) -> Row:
    (found,) = site.host.rows("SELECT * FROM backfill.lane")
    return found


def holds(site: Site) -> list[tuple[str, int, float]]:
    """Return the ledger's holds: kind, page, and total seconds."""
    return [(row["kind"], row["page"], row["seconds"]) for row in site.host.rows("SELECT * FROM backfill.hold")]


@contextmanager
def locked_job(site: Site, lead: str) -> Iterator[None]:
    """Lock a lead's job, as the host does while it works on it."""
    site.host.add_job(lead, "PENDING")
    with site.host.session() as session:
        session.execute('SELECT FROM "BackgroundJob" FOR UPDATE')
        yield


class TestContention:
    def test_page_is_retried_and_the_ledger_says_why(self, impatient: Site) -> None:
        message = started(impatient)

        with locked_job(impatient, "a"):
            step = impatient.parts.chain.step(message)

        assert (step.outcome, step.delay, step.outages, step.reason) == ("retry", 1, 0, LOCK_TIMEOUT)
        assert lane(impatient)["reason"] == f"page 1 waits for a retry: {LOCK_TIMEOUT}"
        assert holds(impatient) == [("retry", 1, 1.0)]
        assert impatient.waiting == []

    def test_next_attempt_is_half_as_large(self, impatient: Site) -> None:
        message = started(impatient)

        with locked_job(impatient, "a"):
            impatient.parts.chain.step(message)

        assert lane(impatient)["size"] == 1

    def test_backoff_doubles_up_to_a_minute(self, site: Site) -> None:
        patient = site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="50", BACKFILL_PAGE_RETRIES="20")
        message = started(site)

        with locked_job(site, "a"):
            delays = [patient.parts.chain.step(message, Tries(retries)).delay for retries in range(8)]

        assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
        assert holds(site) == [("retry", 1, 183.0)]
        patient.close()

    def test_lane_fails_after_the_last_retry(self, impatient: Site) -> None:
        message = started(impatient)

        with locked_job(impatient, "a"):
            step = impatient.parts.chain.step(message, Tries(MOST))

        assert (step.outcome, step.delay) == ("stopped", None)
        assert step.reason == f"{LOCK_TIMEOUT}: given up after {MOST} retries"
        assert lane(impatient)["reason"] == f"page 1: given up after {MOST} retries: {LOCK_TIMEOUT}"
        assert impatient.read(message.run).state == "failed"

    def test_retries_during_an_outage_do_not_count(self, impatient: Site) -> None:
        message = started(impatient)

        with locked_job(impatient, "a"):
            step = impatient.parts.chain.step(message, Tries(retries=MOST + 5, outages=6))

        assert (step.outcome, step.delay, step.outages) == ("retry", 2, 6)

    def test_superseded_page_cannot_fail_a_lane(self, site: Site) -> None:
        message = started(site)
        site.parts.chain.reseed(message.run, [1])

        assert site.parts.chain.stop(message, "too late").outcome == "superseded"
        assert lane(site)["state"] == "running"


class TestChangingRows:
    @pytest.fixture
    def restless(self, own_site: Site) -> Site:
        """Return a site whose host reverts each new job at once."""
        own_site.host.do("CREATE FUNCTION take_back() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        own_site.host.do(
            'CREATE TRIGGER take_back BEFORE INSERT ON "BackgroundJob" FOR EACH ROW EXECUTE FUNCTION take_back()'
        )
        return own_site

    def test_page_is_retried(self, restless: Site) -> None:
        step = restless.parts.chain.step(started(restless))

        assert (step.outcome, step.delay) == ("retry", 1)
        assert step.reason == "the host keeps changing the page's rows"


class TestOutage:
    def test_page_is_retried_forever_with_a_short_delay(self, own_site: Site) -> None:
        message = started(own_site)
        away = own_site.with_settings(BACKFILL_PAGE_RETRIES="0")

        with read_only(own_site.url):
            steps = [away.parts.chain.step(message, Tries(tries, tries)) for tries in range(6)]
        away.close()

        assert [(step.outcome, step.delay, step.outages) for step in steps] == [
            ("retry", delay, tries) for tries, delay in enumerate([1, 2, 4, 8, 8, 8], start=1)
        ]
        assert lane(own_site)["state"] == "running"


class TestLastingErrors:
    def test_lane_fails_at_once_and_says_why(self, own_site: Site) -> None:
        message = started(own_site)
        own_site.host.do('ALTER TABLE "BackgroundJob" RENAME COLUMN "lastError" TO "latestError"')

        step = own_site.parts.chain.step(message)

        assert step.outcome == "stopped"
        assert step.reason == 'page 1: column "lastError" of relation "BackgroundJob" does not exist (42703)'
        assert lane(own_site)["reason"] == step.reason


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """Yield a Redis server that no other test uses."""
    with Redis() as started:
        yield started


@pytest.fixture
def apart(site: Site, own_redis: Redis) -> Iterator[Site]:
    """Yield the site connected to `own_redis`."""
    made = Site(site.url, own_redis.url, waiting=site.waiting)
    yield made
    made.close()


class TestRedis:
    def test_page_is_postponed_while_redis_refuses_writes(self, apart: Site) -> None:
        message = started(apart)

        with redis_client.connect(apart.redis_url) as admin:
            admin.config_set("maxmemory", "1")
            step = apart.parts.chain.step(message, Tries(MOST))
            admin.config_set("maxmemory", "0")

        assert (step.outcome, step.delay, step.outages) == ("put off", 5, 0)
        assert "Redis can't be used: " in (step.reason or "")
        assert "OOM" in (step.reason or "")
        assert lane(apart)["reason"] == f"page 1 waits: {step.reason}"
        assert holds(apart) == [("retry", 1, 5.0)]
        assert apart.host.enqueued() == []

    def test_committed_page_whose_successor_was_not_sent_is_followed_later(self, site: Site) -> None:
        message = started(site)
        step = without_a_broker(site).step(message)

        assert (step.outcome, step.delay) == ("put off", 5)
        assert step.reason == "Redis can't be used: no broker"
        assert site.parts.chain.step(message).outcome == "duplicate"
        assert site.waiting == [replace(message, page=2)]


def without_a_broker(site: Site) -> Chain:
    def send(_message: PageMessage, _delay: float) -> None:
        raise SendError("no broker")

    return replace(site.parts.chain, send=send)
