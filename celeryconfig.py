"""Celery's settings, each with its reason.

Read by `celery -A backfill_tasks …`. What the environment sets comes through backfill_tasks.settings: `backfill config`
lists it.
"""

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.model import MESSAGE_FORMAT
from backfill_tasks.redis_address import parse
from backfill_tasks.settings import load

_settings = load()
_redis = parse(_settings.redis_url)

# ---- broker

# The same Redis, database, login and TLS as the cursors' (backfill_tasks/redis_address.py).
broker_url = _redis.broker_url

# Celery doesn't verify the server of a rediss:// URL unless it is told to.
broker_use_ssl = _redis.broker_tls

broker_transport_options = {
    # A message whose worker is gone comes back after this time. The watchdog is far quicker; this is the net below it.
    # It must stay far above what a task may wait and take, or the message is delivered twice.
    "visibility_timeout": _settings.visibility_timeout,
    # Every interval seconds a worker tells Redis again of messages whose acknowledgement it didn't take; at every 50th
    # time it looks for messages that have outlived the time-out above.
    "unacked_restore_interval": 2,
    "unacked_restore_throttle": 50,
    # Time-outs and keepalives: nothing waits for ever on a Redis that has gone without a goodbye.
    **redis_client.SOCKETS,
    # BRPOP and pub/sub wait without a time-out: kombu drops the first after 1 s and one to two of these intervals in
    # silence, the second after two to three.
    "health_check_interval": 5,
}

# A Redis that is away for an hour must not end the workers: they wait, at the start as well as later.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None

# A Redis that answers but refuses (a replica, a full memory, a failed save) passes too.
broker_channel_error_retry = True

# The next page is sent by the page before it: a publish that fails is tried again for about a minute.
task_publish_retry_policy = {
    "max_retries": 20,
    "interval_start": 0.1,
    "interval_step": 0.5,
    "interval_max": 3,
}

# ---- delivery: at least once, and the fence makes it exactly once

# A page's message is gone only when the page is done. A worker that dies leaves it to another.
task_acks_late = True

# A child that is killed gives its page back at once, without waiting for the visibility timeout.
task_reject_on_worker_lost = True

# One message in the hands of each child, none in store: a slow page holds up nobody's.
worker_prefetch_multiplier = 1

# A child that is killed while the worker starts is replaced; Celery's own pool would end the worker.
worker_pool = "backfill_tasks.worker.pool:TaskPool"

# After a lost connection the page at work goes on to its commit; its message comes back, and the fence drops it.
worker_cancel_long_running_tasks_on_connection_loss = False

# A stop (SIGTERM with REMAP_SIGTERM=SIGQUIT, SIGQUIT) lets pages end for so long, then gives their messages back. Well
# below the 10 seconds after which a plain `docker stop` kills.
worker_soft_shutdown_timeout = 5
worker_enable_soft_shutdown_on_idle = True

# Bounded twice already, by the statement time-out and by Redis' patience. A page that outlives both is stuck.
task_time_limit = 900

# ---- messages

# JSON only: a message can carry no code, whoever can write to the Redis.
task_serializer = "json"
result_serializer = "json"
event_serializer = "json"
accept_content = ["json"]

# Commands to workers (is one online? what does it hold?) reach those of this environment only, where a Redis is shared.
control_exchange = _settings.queue

# The name carries the version of the message's format: a newer message stays in the newer queue for a newer worker. One
# that an old worker meets all the same is put there (backfill_tasks.worker.tasks).
task_default_queue = _settings.queue_of_format(MESSAGE_FORMAT)

# Outcomes are in the ledger and in the events below; nobody reads results.
task_ignore_result = True

# ---- what Flower sees

# Events carry state, arguments, runtime and result of every page.
worker_send_task_events = True

# A page is sent at the end of the page before it, and received milliseconds later: a third event that says so would
# cost half as much again as the sending.
task_send_sent_event = False

# ---- pace and time

# Celery's own rate limit counts for each worker, never reaches one that joins later, and delivers a fraction of what it
# says under a backlog. The bucket that this consumer asks for a page is one that the whole fleet shares, in Redis.
worker_consumer = "backfill_tasks.worker.consumer:Consumer"

# What the fleet's rate is where nobody has set one yet. None: no limit.
task_annotations = {"backfill.page": {"rate_limit": _settings.rate_limit}}

timezone = "UTC"
enable_utc = True

beat_schedule = {
    "watchdog": {
        "task": "backfill.watchdog",
        "schedule": _settings.watchdog_seconds,
        # Not the pages' queue: the watchdog must not wait behind pages (backfill_tasks.worker.watchdog).
        "options": {"queue": _settings.watchdog_queue},
    }
}

# Beat keeps its times in memory: Celery's own scheduler unpickles a file.
beat_scheduler = "backfill_tasks.worker.beat:Scheduler"

# ---- logs: one line an event

worker_hijack_root_logger = True
worker_redirect_stdouts = False
worker_log_format = "%(asctime)s %(levelname)s %(processName)s %(message)s"
worker_task_log_format = "%(asctime)s %(levelname)s %(processName)s %(message)s"
