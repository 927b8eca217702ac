"""Runs Celery's worker and beat in this process, without Celery's own command line.

Celery's command line imports every plug-in before it looks at what it is asked for. Flower is one: each worker and beat
would load Flower and Tornado, for about 12 MiB per process and 0.2 s of CPU at the start.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from celery.bin.base import CLIContext

from backfill_tasks.worker.app import app

if TYPE_CHECKING:
    import click


def run(program: "click.Command", options: Sequence[str]) -> NoReturn:
    """Run one of Celery's programs on our app, like `celery -A backfill_tasks PROGRAM`, and end the process with it.

    The variables that Celery reads for its options (CELERY_WORKER_CONCURRENCY) apply, too.
    """
    # Celery sets up signals and logs itself. Its logs are escaped by filters of the app, which leave colours intact.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    context = CLIContext(app, no_color="NO_COLOR" in os.environ, workdir=None)
    name = str(program.name)
    program.main(list(options), f"backfill {name}", obj=context, auto_envvar_prefix=f"CELERY_{name.upper()}")
