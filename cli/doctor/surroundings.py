"""Checks the settings, and that Redis keeps its data."""

from collections.abc import Iterator

from redis.exceptions import RedisError

from backfill_tasks import redis_address
from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.engine import redis_client
from backfill_tasks.settings import masked

#: The oldest Redis that supports our commands.
_REDIS = (6, 2)


def settings(context: CommandContext) -> Iterator[Finding]:
    """Check that the settings can be read, and that they spread or bound the jobs."""
    found = context.settings
    found.required_database_url()
    yield Finding("fine", "the settings are valid")
    if not (found.defaults["jobs_per_minute"] or found.defaults["max_pending"]):
        yield Finding(
            "look",
            "the number of jobs in the host's queue is unlimited",
            "All jobs come due at once and delay live ones. Set BACKFILL_MAX_PENDING or BACKFILL_JOBS_PER_MINUTE.",
        )


def redis(context: CommandContext) -> Iterator[Finding]:
    """Check that Redis answers, is new enough, persists its data and doesn't evict keys."""
    tls = redis_address.parse(context.settings.redis_url).tls
    if tls and tls.weakness:
        advice = "Any server at that address would get the password. Remove the parameter, and set ssl_ca_certs."
        yield Finding("look", f"Redis: {tls.weakness}", advice)
    context.client.require_redis()
    client = redis_client.connect(context.settings.redis_url, patience=1)
    try:
        version = str(client.info("server")["redis_version"])
        # Not CONFIG GET: a user with that privilege could read Redis' passwords, too.
        policy = client.info("memory").get("maxmemory_policy")
        keeps = client.info("persistence").get("aof_enabled")
    except RedisError as error:  # a managed Redis often refuses to tell
        yield Finding("look", "Redis doesn't show its settings, so they weren't checked", f"Redis says: {error}")
        return
    if tuple(int(part) for part in version.split(".")[:2]) < _REDIS:
        yield Finding("WRONG", f"Redis {version}", "Upgrade it to Redis 6.2 or later.")
    else:
        yield Finding("fine", f"Redis {version} answers: {masked(context.settings.redis_url)}")
    if policy not in (None, "noeviction"):
        yield Finding(
            "look",
            f"Redis may evict keys: its maxmemory-policy is {policy}",
            "A lane whose message is evicted stalls until the watchdog reseeds it. Type in redis-cli: CONFIG SET"
            " maxmemory-policy noeviction",
        )
    if keeps == 0:
        yield Finding(
            "look",
            "Redis loses its data in a restart: it isn't append-only",
            "No page is lost, but lanes stall until the watchdog reseeds them from the ledger. Type in redis-cli:"
            " CONFIG SET appendonly yes",
        )
