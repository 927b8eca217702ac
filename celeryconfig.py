"""Celery's settings, each with its reason.

Read by `celery -A backfill_tasks …`. Settings from the environment come through backfill_tasks.settings; the command
`backfill config` lists them.
"""

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.model import MESSAGE_FORMAT
from backfill_tasks.redis_address import parse
from backfill_tasks.settings import load

_settings = load()
_redis = parse(_settings.redis_url)

# ---- broker

# The same Redis, database, login and TLS as for the cursors (backfill_tasks/redis_address.py).
broker_url = _redis.broker_url

# By default, Celery doesn't verify the server of a rediss:// URL.
broker_use_ssl = _redis.broker_tls

broker_transport_options = {
    # A message whose worker is gone is redelivered after this time, as a safety net: the watchdog is far quicker. It
    # must stay far above the time that a task may wait and run, or the message is delivered twice.
    "visibility_timeout": _settings.visibility_timeout,
    # Every interval seconds, a worker repeats acknowledgements that Redis didn't accept; every 50th time, it also looks
    # for messages that have outlived the timeout above.
    "unacked_restore_interval": 2,
    "unacked_restore_throttle": 50,
    # Timeouts and keepalives: nothing waits forever for a Redis that vanished without closing the connection.
    **redis_client.SOCKETS,
    # BRPOP and pub/sub wait without a timeout: kombu drops a silent BRPOP after 1 s plus one to two of these intervals,
    # a silent pub/sub connection after two to three.
    "health_check_interval": 5,
}

# An hour without Redis must not end the workers: they wait, both at the start and later.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None

# A Redis that answers but refuses (a replica, a full memory, a failed save) is a passing fault, too.
broker_channel_error_retry = True

# Each page sends the next one: a failed publish is retried for about a minute.
task_publish_retry_policy = {
    "max_retries": 20,
    "interval_start": 0.1,
    "interval_step": 0.5,
    "interval_max": 3,
}

# ---- delivery: at least once; the fence makes the effect exactly once

# Acknowledge a page's message only when the page is done: if a worker dies, another one gets the page.
task_acks_late = True

# Requeue the page of a killed child at once, without waiting for the visibility timeout.
task_reject_on_worker_lost = True

# One message per child and none prefetched: no message waits behind a slow page.
worker_prefetch_multiplier = 1

# Replace a child that is killed while the worker starts; Celery's own pool would end the worker.
worker_pool = "backfill_tasks.worker.pool:TaskPool"

# After a lost connection, let the running page commit; its message is redelivered, and the fence drops it.
worker_cancel_long_running_tasks_on_connection_loss = False

# On a stop (SIGQUIT, or SIGTERM with REMAP_SIGTERM=SIGQUIT), pages have this many seconds to end; then their messages
# are requeued. Well below the 10 seconds after which a plain `docker stop` kills.
worker_soft_shutdown_timeout = 5
worker_enable_soft_shutdown_on_idle = True

# A page is already bounded by the statement timeout and by the patience with Redis. One that outlives both is stuck.
task_time_limit = 900

# ---- messages

# JSON only: no message can carry code, even if others can write to the Redis.
task_serializer = "json"
result_serializer = "json"
event_serializer = "json"
accept_content = ["json"]

# On a shared Redis, commands to workers (is one online? what does it own?) reach only this environment's workers.
control_exchange = _settings.queue

# The name carries the version of the message format: newer messages stay in the newer queue, for newer workers. An old
# worker that gets one anyway forwards it there (backfill_tasks.worker.tasks).
task_default_queue = _settings.queue_of_format(MESSAGE_FORMAT)

# Batches of `backfill work` have workers of their own, so that pages and scoring never wait for each other.
task_routes = {"backfill.score": {"queue": _settings.scoring_queue}}

# Outcomes are in the ledger and in the events below; results are never read.
task_ignore_result = True

# ---- what Flower sees

# Events carry the state, arguments, runtime and result of every page.
worker_send_task_events = True

# A page is sent at the end of the page before it and received milliseconds later: an event for the sending would tell
# little, and make the sending half as expensive again.
task_send_sent_event = False

# ---- pace and time

# Celery's own rate limit applies per worker, never reaches a worker that joins later, and delivers a fraction of the
# rate under a backlog. This consumer takes a page's token from one bucket in Redis, which the whole fleet shares.
worker_consumer = "backfill_tasks.worker.consumer:Consumer"

# The fleet's rate until another one is set. None: no limit.
task_annotations = {"backfill.page": {"rate_limit": _settings.rate_limit}}

timezone = "UTC"
enable_utc = True

beat_schedule = {
    "watchdog": {
        "task": "backfill.watchdog",
        "schedule": _settings.watchdog_seconds,
        # A queue of its own: the watchdog must not wait behind pages (backfill_tasks.worker.on_beat).
        "options": {"queue": _settings.watchdog_queue},
    },
    # Has a worker look whether the drain is on; the worker that takes its lease then keeps the drain's own pace.
    "drain": {
        "task": "backfill.drain",
        "schedule": _settings.watchdog_seconds,
        "options": {"queue": _settings.drain_queue},
    },
}

# Beat keeps its times in memory: Celery's own scheduler unpickles them from a file.
beat_scheduler = "backfill_tasks.worker.beat:Scheduler"

# ---- logs: one line per event

worker_hijack_root_logger = True
worker_redirect_stdouts = False
worker_log_format = "%(asctime)s %(levelname)s %(processName)s %(message)s"
worker_task_log_format = "%(asctime)s %(levelname)s %(processName)s %(message)s"
