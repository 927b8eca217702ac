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
from backfill_tasks.worker import events, transport
from backfill_tasks.worker.passing import PassingFaultFilter

# A worker that is asked to end forgets tasks that it has handed to a child and the child has not yet begun with
# (AsynPool.flush): their messages go back. A child that did begin waits until somebody takes note of its outcome, for
# so many times 0.1 s, by default 300: a stop took half a minute. What it has done is committed, and the fence drops the
# message that comes again.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20

transport.install()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """End Celery's command line with one line about a setting that it can't use; it would print a traceback."""
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
    "worker.fleet",
    "worker.remote_control",
    "worker.watchdog",
    "diagnosis.workers",
)

app = Celery(
    "backfill", amqp=transport.AMQP, events=events.Events, include=[f"backfill_tasks.{name}" for name in _PARTS]
)
with _one_line_errors():
    # Not by the name `celeryconfig`: Celery puts the working directory first, where the configuration of another
    # application may lie.
    app.config_from_object(import_module("backfill_tasks.celeryconfig"))


@import_modules.connect  # type: ignore[untyped-decorator]
def _import_flowers_part(**_: object) -> None:
    """Import Flower's part in Flower's process alone, together with `include`: its command line is read by then."""
    context = click.get_current_context(silent=True)
    if context is not None and context.info_name == "flower":
        import_module("backfill_tasks.worker.flower")


@after_setup_logger.connect  # type: ignore[untyped-decorator]
@after_setup_task_logger.connect  # type: ignore[untyped-decorator]
def _escape_logs(logger: logging.Logger, **_: object) -> None:
    """An id or an error text can't forge a line of the log or drive the terminal that shows it."""
    for handler in logger.handlers:
        handler.addFilter(PassingFaultFilter())
        handler.addFilter(OneLineFilter())


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _refuse_to_start_in_vain(**_: object) -> None:
    """End a worker that could do no page, in one line. A database that is merely down passes: the worker starts."""
    try:
        parse_url(settings.load().required_database_url())
    except ConfigurationError as error:
        raise SystemExit(f"The worker can't start: {error}") from None


@after_setup_logger.connect  # type: ignore[untyped-decorator]
def _one_line_an_event(**_: object) -> None:
    """The page says itself what became of it: Celery's lines about the same page are left out."""
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)
