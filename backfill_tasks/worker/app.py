"""The Celery app: `celery -A backfill_tasks worker`, `… beat`, `… flower`. Its settings are in celeryconfig.py."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import billiard.pool
import click
from celery import Celery
from celery.signals import after_setup_logger, after_setup_task_logger, celeryd_init, import_modules

from backfill_tasks import settings
from backfill_tasks.engine.database import parse_url
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.escaping import OneLineFilter
from backfill_tasks.worker import events, mailbox, transport
from backfill_tasks.worker.passing import PassingFaultFilter

# A stopping worker drops tasks that it handed to a child which hasn't started them (AsynPool.flush); their messages are
# redelivered. A child that has started waits for the parent to take its result, checking every 0.1 s, by default 300
# times: a stop took half a minute. The page has committed by then, and the fence drops the redelivered message.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20

transport.install()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Exit Celery's command line with one line about an unusable setting; Celery would print a traceback."""
    try:
        yield
    except ConfigurationError as error:
        context = click.get_current_context(silent=True)
        if context is None or context.find_root().command.name != "celery":
            raise
        click.echo(f"backfill: {error}", err=True)
        sys.exit(2)


_PARTS = (
    "worker.tasks",
    "worker.scoring",
    "worker.fleet",
    "worker.remote_control",
    "worker.watchdog",
    "worker.drain",
    "diagnosis.workers",
)

app = Celery(
    "backfill",
    amqp=transport.AMQP,
    control=mailbox.Control,
    events=events.Events,
    include=[f"backfill_tasks.{name}" for name in _PARTS],
)
with _one_line_errors():
    # Not by the name `celeryconfig`: Celery puts the working directory first on the path, and another application's
    # celeryconfig.py may be there.
    app.config_from_object(import_module("backfill_tasks.celeryconfig"))


@import_modules.connect  # type: ignore[untyped-decorator]
def _import_flowers_part(**_: object) -> None:
    """Import our Flower module in Flower's process only, with `include`: Flower has parsed its command line by then."""
    context = click.get_current_context(silent=True)
    if context is not None and context.info_name == "flower":
        import_module("backfill_tasks.worker.flower")


@after_setup_logger.connect  # type: ignore[untyped-decorator]
@after_setup_task_logger.connect  # type: ignore[untyped-decorator]
def _escape_logs(logger: logging.Logger, **_: object) -> None:
    """Escape log records and shorten passing faults.

    An id or an error text can't forge a log line or drive the terminal that shows it.
    """
    for handler in logger.handlers:
        handler.addFilter(PassingFaultFilter())
        handler.addFilter(OneLineFilter())


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _refuse_to_start_in_vain(**_: object) -> None:
    """Exit with one line if the settings rule out every page. A worker does start while the database is down."""
    try:
        parse_url(settings.load().required_database_url())
    except ConfigurationError as error:
        raise SystemExit(f"The worker can't start: {error}") from None


@after_setup_logger.connect  # type: ignore[untyped-decorator]
def _one_line_an_event(**_: object) -> None:
    """Silence Celery's own lines about pages: the page task logs its outcome itself."""
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
