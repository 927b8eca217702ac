"""Celery's settings, each with its reason.

Read by `celery -A backfill_tasks …`. What the environment sets comes through backfill_tasks.settings: `backfill config`
lists it.
"""

import tempfile
from pathlib import Path

from backfill_tasks.engine.model import MESSAGE_FORMAT
from backfill_tasks.settings import load

_settings = load()


def _celery_url(url: str) -> str:
    """Redis' own form of a socket's URL, in kombu's."""
    return url.replace("unix://", "redis+socket://", 1)


# ---- broker

broker_url = _celery_url(_settings.redis_url)

broker_transport_options = {
    # A message whose worker is gone comes back after this time. The watchdog is far quicker; this is the net below it.
    # It must stay far above what a task may wait and take, or the message is delivered twice.
    "visibility_timeout": _settings.visibility_timeout,
    # Without one, a publish to a Redis that has stopped answering waits for ever. For so long beat and a worker stand
    # still whose Redis is gone without a goodbye, as a container is that comes back at another address.
    "socket_timeout": 10,
    "socket_connect_timeout": 10,
    "socket_keepalive": True,
    "health_check_interval": 25,
}

# A Redis that is away for an hour must not end the workers: they wait, at the start as well as later.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None

# The next page is sent by the page before it: a publish that fails is tried again for about a minute.
task_publish_retry_policy = {
    "max_retries": 15,
    "interval_start": 0.1,
    "interval_step": 0.5,
    "interval_max": 5,
}

# ---- delivery: at least once, and the fence makes it exactly once

# A page's message is gone only when the page is done. A worker that dies leaves it to another.
task_acks_late = True

# A child that is killed gives its page back at once, without waiting for the visibility timeout.
task_reject_on_worker_lost = True

# One message in the hands of each child, none in store: a slow page holds up nobody's.
worker_prefetch_multiplier = 1

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
# that an old worker meets all the same is put there (backfill_tasks.tasks).
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
worker_consumer = "backfill_tasks.consumer:Consumer"

# What the fleet's rate is where nobody has set one yet. None: no limit.
task_annotations = {"backfill.page": {"rate_limit": _settings.rate_limit}}

timezone = "UTC"
enable_utc = True

beat_schedule = {
    "watchdog": {
        "task": "backfill.watchdog",
        "schedule": _settings.watchdog_seconds,
        # One that nobody took in time is not made up for: the next does the same. It may have to wait behind pages
        # that wait for the fleet's rate, so it is given time; a few that come together find nothing to do.
        "options": {"expires": 40 * _settings.watchdog_seconds},
    }
}

# Beat keeps its times in a file, which nobody needs to keep: a working directory that is read-only will do.
beat_schedule_filename = str(Path(tempfile.gettempdir()) / f"backfill-beat-{_settings.queue}")

# It is written each time that something was sent: its age says whether beat is alive, to a health check.
beat_sync_every = 1

# ---- logs: one line an event

worker_hijack_root_logger = True
worker_redirect_stdouts = False
worker_log_format = "%(asctime)s %(levelname)s %(processName)s %(message)s"
worker_task_log_format = "%(asctime)s %(levelname)s %(processName)s %(message)s"
