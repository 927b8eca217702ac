"""Checks the settings, and that Redis keeps its data."""

from collections.abc import Iterator

from redis.exceptions import RedisError

from backfill_tasks import redis_address
from backfill_tasks.cli.context import Session
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.engine import redis_client
from backfill_tasks.settings import masked

#: The oldest Redis that supports our commands.
_REDIS = (6, 2)


def settings(session: Session) -> Iterator[Finding]:
    """Check that the settings can be read, and that they spread or bound the jobs."""
    found = session.settings
    found.required_database_url()
    yield Finding("fine", "settings can be read")
    if not (found.defaults["jobs_per_minute"] or found.defaults["max_pending"]):
        yield Finding(
            "look",
            "jobs are neither spread nor bounded",
            "All jobs come due at once, before every webhook's: set BACKFILL_JOBS_PER_MINUTE or BACKFILL_MAX_PENDING.",
        )


def redis(session: Session) -> Iterator[Finding]:
    """Check that Redis answers, is new enough, persists its data and doesn't evict keys."""
    tls = redis_address.parse(session.settings.redis_url).tls
    if tls and tls.weakness:
        advice = "Whoever answers at that address gets the password: remove the parameter, and give ssl_ca_certs."
        yield Finding("look", f"Redis: {tls.weakness}", advice)
    session.client.require_redis()
    client = redis_client.connect(session.settings.redis_url, patience=1)
    try:
        version = str(client.info("server")["redis_version"])
        # Not CONFIG GET: a user with that privilege could read Redis' passwords, too.
        policy = client.info("memory").get("maxmemory_policy")
        keeps = client.info("persistence").get("aof_enabled")
    except RedisError as error:  # a managed Redis often refuses to tell
        yield Finding("look", "Redis answers, but does not tell its settings", f"It says: {error}")
        return
    if tuple(int(part) for part in version.split(".")[:2]) < _REDIS:
        yield Finding("WRONG", f"Redis {version}", "Redis 6.2 or later is needed.")
    else:
        yield Finding("fine", f"Redis {version} answers: {masked(session.settings.redis_url)}")
    if policy not in (None, "noeviction"):
        yield Finding("look", f"Redis may evict keys: {policy}", "CONFIG SET maxmemory-policy noeviction")
    if keeps == 0:
        yield Finding(
            "look",
            "Redis keeps nothing over a restart",
            "Nothing is lost for good, the ledger has it all; but lanes stand until the watchdog reseeds them."
            " CONFIG SET appendonly yes",
        )
