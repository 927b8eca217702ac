"""Flower with this project in it: all of it behind its login, and a list that tells what came of each page.

Only Flower's process imports this, after its command line is read: see worker/app.py. (Celery's command line itself
imports the package `flower` for whatever command it is given, to have it in its help: some 3 MB of a worker's child.)
"""

import ast
from typing import Any

from celery.states import FAILURE, RETRY
from flower.api import BaseApiHandler
from flower.options import options
from flower.views.monitor import Metrics
from tornado.web import authenticated

#: The columns of the task list, the telling ones first: a narrow window cuts off the last.
_COLUMNS = "uuid,state,result,runtime,received,worker"

#: Those that Flower shows by itself; who asks for others gets others.
_COLUMNS_OF_FLOWERS_OWN = "name,uuid,state,received,runtime,worker"


def show(task: Any) -> Any:
    """A task as Flower's pages show it: its result is what came of it, or why it failed or is put off, in short."""
    if task.state in {FAILURE, RETRY}:
        task.result = task.exception
    elif task.name == "backfill.page" and task.result:
        counts = ast.literal_eval(task.result)
        outcome = counts.pop("outcome")
        task.result = " ".join([outcome, *(f"{name}={count}" for name, count in counts.items() if count)])
    return task


# Flower leaves its metrics open to everybody. They are part of its API: the same login, and with no login the same
# refusal. (/healthcheck stays open, and says no more than that Flower answers.)
Metrics.prepare = BaseApiHandler.prepare
Metrics.get = authenticated(Metrics.get)

# Without a login the pages are for this machine only, unless an address is asked for.
if not (options.basic_auth or options.auth or options.address):
    options.address = "127.0.0.1"

if options.tasks_columns == _COLUMNS_OF_FLOWERS_OWN:
    options.tasks_columns = _COLUMNS

options.format_task = options.format_task or show
